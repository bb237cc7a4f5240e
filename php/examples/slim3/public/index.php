<?php

/**
 * A Slim 3 application that answers first and does its slow steps afterwards. What deferring takes are the two
 * places marked with an arrow, and $this->defer->defer(…) around each slow step.
 */

declare(strict_types=1);

use Deferd\Defer;
use Demo\Steps;
use Slim\App;
use Slim\Http\Request;
use Slim\Http\Response;

// Slim 3 is older than PHP 8. Its deprecation notices, printed before the response, would make it throw
// "Unexpected data in output buffer".
error_reporting(E_ALL & ~E_DEPRECATED & ~E_USER_DEPRECATED);
ini_set('display_errors', '0');

// Slim from Composer (slim/slim:^3.12), or from Debian's package php-slim.
$vendor = __DIR__ . '/../vendor/autoload.php';
require is_file($vendor) ? $vendor : '/usr/share/php/Slim/autoload.php';
if (!class_exists(Defer::class)) {
    require __DIR__ . '/../../../autoload.php';
}
require __DIR__ . '/../Steps.php';

$app = new App();
$container = $app->getContainer();

$container['defer'] = new Defer();                                          // <-- one
$container['steps'] = fn ($c) => new Steps(
    $c['request']->getUri()->getPath(),
    (string) $c['request']->getQueryParam('key', '')
);

// Steps 1, 3 and 5 make the answer, 2 and 4 can wait; the code keeps the order one thinks in.
$app->get('/', function (Request $request, Response $response) {
    $steps = $this->steps;
    $steps->main(1);
    $this->defer->defer(fn () => $steps->slow(2), 'step 2');
    $steps->main(3);
    $this->defer->defer(fn () => $steps->slow(4), 'step 4');
    $steps->main(5);

    return $response->withHeader('Content-Type', 'text/plain')->write((string) $steps);
});

// The same five steps without Defer: what the client waits for then.
$app->get('/plain', function (Request $request, Response $response) {
    $steps = $this->steps;
    $steps->main(1);
    $steps->slow(2, 'main');
    $steps->main(3);
    $steps->slow(4, 'main');
    $steps->main(5);

    return $response->withHeader('Content-Type', 'text/plain')->write((string) $steps);
});

// A controller that exits never comes back to the last line of this file. Steps 2 and 4 run nevertheless.
$app->get('/exit', function () {
    $steps = $this->steps;
    $steps->main(1);
    $this->defer->defer(fn () => $steps->slow(2), 'step 2');
    $this->defer->defer(fn () => $steps->slow(4), 'step 4');
    header('Content-Type: text/plain');
    exit((string) $steps);
});

// One deferred step fails: it is reported, and the next one runs.
$app->get('/throws', function (Request $request, Response $response) {
    $steps = $this->steps;
    $steps->main(1);
    $this->defer->defer(fn () => $steps->slow(2), 'step 2');
    $this->defer->defer(fn () => throw new RuntimeException('the mail server is away'), 'step 3');
    $this->defer->defer(fn () => $steps->slow(4), 'step 4');

    return $response->withHeader('Content-Type', 'text/plain')->write((string) $steps);
});

$app->run();

$container['defer']->run();                                                    // <-- two
