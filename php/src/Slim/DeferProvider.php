<?php

declare(strict_types=1);

namespace Deferd\Slim;

use Deferd\Defer;
use Pimple\Container;
use Pimple\ServiceProviderInterface;
use Psr\Log\LoggerInterface;

/**
 * For Slim 3, and any application on Pimple: `$container['defer']`.
 *
 *     $container->register(new Deferd\Slim\DeferProvider());
 *     …
 *     $app->run();
 *     $container['defer']->run();
 *
 * It is made when it is first asked for. Failures go to the container's entry `logger` if that is a PSR-3 one.
 */
final class DeferProvider implements ServiceProviderInterface
{
    /**
     * @param bool $skipOnError whether a response with status 400 or above keeps back the callbacks that are not
     *                          registered with always()
     */
    public function __construct(private readonly bool $skipOnError = false)
    {
    }

    public function register(Container $pimple): void
    {
        $pimple['defer'] = fn (Container $container): Defer => new Defer(
            self::logger($container),
            skipOnError: $this->skipOnError
        );
    }

    private static function logger(Container $container): ?LoggerInterface
    {
        $logger = $container->offsetExists('logger') ? $container->offsetGet('logger') : null;

        return $logger instanceof LoggerInterface ? $logger : null;
    }
}
