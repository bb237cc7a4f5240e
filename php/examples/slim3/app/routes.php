<?php

declare(strict_types=1);

use Slim\App;
use Slim\Http\NonBufferedBody;
use Slim\Http\Request;
use Slim\Http\Response;

return static function (App $app): void {
    $app->get('/get', function (Request $request, Response $response) {
        $this->chores->defer();

        return $response->withHeader('Content-Type', 'text/plain')->write("got\n");
    });

    $app->post('/post', function (Request $request, Response $response) {
        $this->chores->defer();

        return $response->withJson(['posted' => $request->getParsedBody()]);
    });

    $app->get('/no-content', function (Request $request, Response $response) {
        $this->chores->defer();

        return $response->withStatus(204);
    });

    $app->get('/redirect', function (Request $request, Response $response) {
        $this->chores->defer();

        return $response->withRedirect('/get');
    });

    // Slim sends the headers of such a response no more: the first line has taken them along.
    $app->get('/stream', function (Request $request, Response $response) {
        $this->chores->defer();
        header('Content-Type: text/plain');
        $response = $response->withBody(new NonBufferedBody());
        for ($line = 1; $line <= 5; $line++) {
            $response->write("line $line\n");
        }

        return $response;
    });

    $app->get('/compressed', function (Request $request, Response $response) {
        $this->chores->defer();

        return $response->withHeader('Content-Type', 'text/plain')->write(str_repeat("to be compressed\n", 4000));
    });

    $app->get('/error', function () {
        $this->chores->defer();
        throw new RuntimeException('this controller has failed');
    });

    $app->get('/exit', function () {
        $this->chores->defer();
        header('Content-Type: text/plain');
        exit("left\n");
    });

    $app->get('/plain', function (Request $request, Response $response) {
        return $response->withHeader('Content-Type', 'text/plain')->write("nothing deferred\n");
    });

    // The session is open until the response ends; the chores do not keep the next request out of it.
    $app->get('/session', function (Request $request, Response $response) {
        $this->chores->defer();
        session_start();
        $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;

        return $response->withHeader('Content-Type', 'text/plain')->write("{$_SESSION['count']}\n");
    });

    $app->get('/throws', function (Request $request, Response $response) {
        $this->defer->defer(fn () => throw new RuntimeException('the mail server is away'), 'mail');
        $this->chores->defer();

        return $response->withHeader('Content-Type', 'text/plain')->write("got\n");
    });
};
