<?php

declare(strict_types=1);

namespace Deferd\Tests\Psr;

use Deferd\Psr\DeferFactory;
use Deferd\Tests\Lines;
use PHPUnit\Framework\TestCase;
use Pimple\Container;
use Pimple\Psr11\Container as PsrContainer;
use Psr\Log\LoggerInterface;

final class DeferFactoryTest extends TestCase
{
    public function testNeedsNothingOfTheContainer(): void
    {
        $this->assertTrue((new DeferFactory())(new PsrContainer(new Container()))->isEmpty());
    }

    public function testTellsTheContainersLoggerOfFailures(): void
    {
        $logger = new Lines();
        $container = new Container([LoggerInterface::class => static fn (): Lines => $logger]);

        $defer = (new DeferFactory())(new PsrContainer($container));
        $defer->defer(static fn () => throw new \RuntimeException('no mail'));
        $defer->run();
        $this->assertSame(['no mail'], $logger->lines);
    }
}
