<?php

/**
 * A Slim 4 application that answers first and does its slow work afterwards. What deferring takes are the lines marked
 * with an arrow here, in app/dependencies.php and in app/middleware.php.
 */

declare(strict_types=1);

use Deferd\Defer;
use Pimple\Container;
use Pimple\Psr11\Container as PsrContainer;
use Slim\Factory\AppFactory;

require __DIR__ . '/../vendor/autoload.php';

$definitions = new Container();
(require __DIR__ . '/../app/dependencies.php')($definitions);
$container = new PsrContainer($definitions);

$app = AppFactory::createFromContainer($container);
(require __DIR__ . '/../app/middleware.php')($app);
(require __DIR__ . '/../app/routes.php')($app);

$app->run();

$container->get(Defer::class)->run();                                     // <-- forgotten, it runs at the end
