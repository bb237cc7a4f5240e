<?php

declare(strict_types=1);

use Deferd\Psr\DeferMiddleware;
use Slim\App;

return static function (App $app): void {
    $app->add(DeferMiddleware::class);                                                                        // <--
    $app->addBodyParsingMiddleware();
    $app->addRoutingMiddleware();
    $app->addErrorMiddleware(displayErrorDetails: false, logErrors: true, logErrorDetails: true);
};
