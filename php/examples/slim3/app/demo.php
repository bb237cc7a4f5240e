<?php

/**
 * What `make demo` shows: the same five steps, with and without Defer.
 */

declare(strict_types=1);

use Slim\App;
use Slim\Http\Request;
use Slim\Http\Response;

return static function (App $app): void {
    // Steps 1, 3 and 5 make the answer, 2 and 4 can wait; the code keeps the order one thinks in.
    $app->get('/demo', function (Request $request, Response $response) {
        $steps = $this->steps;
        $steps->main(1);
        $this->defer->defer(fn () => $steps->slow(2), 'step 2');
        $steps->main(3);
        $this->defer->defer(fn () => $steps->slow(4), 'step 4');
        $steps->main(5);

        return $response->withHeader('Content-Type', 'text/plain')->write((string) $steps);
    });

    // The same five steps without Defer: what the client waits for then.
    $app->get('/demo/plain', function (Request $request, Response $response) {
        $steps = $this->steps;
        $steps->main(1);
        $steps->slow(2, 'main');
        $steps->main(3);
        $steps->slow(4, 'main');
        $steps->main(5);

        return $response->withHeader('Content-Type', 'text/plain')->write((string) $steps);
    });

    // A controller that exits never comes back to the last line of index.php. Steps 2 and 4 run nevertheless.
    $app->get('/demo/exit', function () {
        $steps = $this->steps;
        $steps->main(1);
        $this->defer->defer(fn () => $steps->slow(2), 'step 2');
        $this->defer->defer(fn () => $steps->slow(4), 'step 4');
        header('Content-Type: text/plain');
        exit((string) $steps);
    });

    // One deferred step fails: it is reported, and the next one runs.
    $app->get('/demo/throws', function (Request $request, Response $response) {
        $steps = $this->steps;
        $steps->main(1);
        $this->defer->defer(fn () => $steps->slow(2), 'step 2');
        $this->defer->defer(fn () => throw new RuntimeException('the mail server is away'), 'step 3');
        $this->defer->defer(fn () => $steps->slow(4), 'step 4');

        return $response->withHeader('Content-Type', 'text/plain')->write((string) $steps);
    });
};
