<?php

/**
 * An application without a framework that answers first and does its slow work afterwards. What deferring takes are the
 * lines marked with an arrow, and $defer->defer(…) where there is something to defer.
 */

declare(strict_types=1);

use App\Chores;
use Deferd\Defer;

require __DIR__ . '/../../../autoload.php';                                 // <-- or Composer's vendor/autoload.php
require __DIR__ . '/../src/Chores.php';

$defer = new Defer();                                                       // <--
$chores = new Chores($defer, (int) ($_GET['ms'] ?? 100));
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$routes = require __DIR__ . '/../src/routes.php';
$controller = $routes["{$_SERVER['REQUEST_METHOD']} $path"] ?? $routes["GET $path"] ?? null;

header('Content-Type: text/plain');
try {
    if ($controller === null) {
        http_response_code(404);
        echo "nothing here\n";
    } else {
        $controller($chores, $defer);
    }
} catch (Throwable $error) {
    error_log((string) $error);
    http_response_code(500);
    echo "this page has failed\n";
}

$defer->run();                                                              // <-- forgotten, it runs at the end
