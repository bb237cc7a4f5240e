<?php

declare(strict_types=1);

use App\SessionMiddleware;
use Deferd\Defer;
use Deferd\Psr\DeferFactory;
use Deferd\Psr\DeferMiddleware;
use Pimple\Container;
use Pimple\Psr11\Container as PsrContainer;

return static function (Container $container): void {
    $container[Defer::class] = static fn (Container $c): Defer => (new DeferFactory())(new PsrContainer($c)); // <--
    $container[DeferMiddleware::class] = static fn (Container $c) => new DeferMiddleware($c[Defer::class]);   // <--
    $container[SessionMiddleware::class] = static fn () => new SessionMiddleware();
};
