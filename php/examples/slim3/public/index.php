<?php

/**
 * A Slim 3 application that answers first and does its slow work afterwards. What deferring takes are the two places
 * marked with an arrow, and $this->defer->defer(…) in a controller.
 */

declare(strict_types=1);

use Deferd\Slim\DeferProvider;
use Slim\App;

// Slim 3 is older than PHP 8. Its deprecation notices, printed before the response, would make it throw
// "Unexpected data in output buffer".
error_reporting(E_ALL & ~E_DEPRECATED & ~E_USER_DEPRECATED);
ini_set('display_errors', '0');

require __DIR__ . '/../autoload.php';

$app = new App();
$container = $app->getContainer();

$container->register(new DeferProvider());                                  // <-- one
(require __DIR__ . '/../app/dependencies.php')($container);
(require __DIR__ . '/../app/routes.php')($app);
(require __DIR__ . '/../app/demo.php')($app);

$app->run();

$container['defer']->run();                                                 // <-- two; forgotten, it runs at the end
