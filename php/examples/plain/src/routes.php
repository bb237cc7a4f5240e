<?php

declare(strict_types=1);

use App\Chores;
use Deferd\Defer;

return [
    'GET /get' => static function (Chores $chores): void {
        $chores->defer();
        echo "got\n";
    },

    'POST /post' => static function (Chores $chores): void {
        $chores->defer();
        echo 'posted ' . strlen((string) file_get_contents('php://input')) . " bytes\n";
    },

    'GET /no-content' => static function (Chores $chores): void {
        $chores->defer();
        http_response_code(204);
    },

    'GET /redirect' => static function (Chores $chores): void {
        $chores->defer();
        header('Location: /get', true, 302);
    },

    'GET /stream' => static function (Chores $chores): void {
        $chores->defer();
        for ($line = 1; $line <= 5; $line++) {
            echo "line $line\n";
            flush();
        }
    },

    'GET /compressed' => static function (Chores $chores): void {
        $chores->defer();
        echo str_repeat("to be compressed\n", 4000);
    },

    'GET /error' => static function (Chores $chores): void {
        $chores->defer();
        throw new RuntimeException('this controller has failed');
    },

    'GET /exit' => static function (Chores $chores): void {
        $chores->defer();
        exit("left\n");
    },

    'GET /plain' => static function (): void {
        echo "nothing deferred\n";
    },

    // The session is open until the response ends; the chores do not keep the next request out of it.
    'GET /session' => static function (Chores $chores): void {
        $chores->defer();
        session_start();
        $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
        echo "{$_SESSION['count']}\n";
    },

    'GET /throws' => static function (Chores $chores, Defer $defer): void {
        $defer->defer(static fn () => throw new RuntimeException('the mail server is away'), 'mail');
        $chores->defer();
        echo "got\n";
    },
];
