<?php

declare(strict_types=1);

namespace Deferd\Psr;

use Deferd\Defer;
use Psr\Container\ContainerInterface;
use Psr\Log\LoggerInterface;

/**
 * Makes the Defer of a PSR-11 container, which is to make one and keep it:
 *
 *     Defer::class => DI\factory(DeferFactory::class),             // PHP-DI
 *     'factories' => [Defer::class => DeferFactory::class],        // Laminas, Mezzio
 *
 * Failures go to the container's PSR-3 logger, if it has one by that interface's name.
 */
final class DeferFactory
{
    /**
     * @param bool $skipOnError whether a response with status 400 or above keeps back the callbacks that are not
     *                          registered with always()
     */
    public function __construct(private readonly bool $skipOnError = false)
    {
    }

    public function __invoke(ContainerInterface $container): Defer
    {
        $logger = $container->has(LoggerInterface::class) ? $container->get(LoggerInterface::class) : null;

        return new Defer($logger instanceof LoggerInterface ? $logger : null, skipOnError: $this->skipOnError);
    }
}
