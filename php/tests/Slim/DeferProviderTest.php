<?php

declare(strict_types=1);

namespace Deferd\Tests\Slim;

use Deferd\Defer;
use Deferd\Slim\DeferProvider;
use Deferd\Tests\Lines;
use PHPUnit\Framework\TestCase;
use Pimple\Container;

final class DeferProviderTest extends TestCase
{
    public function testGivesTheContainerOneDefer(): void
    {
        $container = new Container();
        $container->register(new DeferProvider());

        $this->assertInstanceOf(Defer::class, $container['defer']);
        $this->assertSame($container['defer'], $container['defer']);
    }

    public function testTellsTheContainersLoggerOfFailures(): void
    {
        $logger = new Lines();
        $container = new Container(['logger' => static fn (): Lines => $logger]);
        $container->register(new DeferProvider());

        self::fails($container);
        $this->assertSame(['no mail'], $logger->lines);
    }

    public function testTakesNothingElseForALogger(): void
    {
        $container = new Container(['logger' => 'a file']);
        $container->register(new DeferProvider());

        $log = tempnam(sys_get_temp_dir(), 'defer-test-');
        $this->assertIsString($log);
        $before = ini_set('error_log', $log);
        try {
            self::fails($container);
            $this->assertStringContainsString('no mail', (string) file_get_contents($log));
        } finally {
            ini_set('error_log', (string) $before);
            unlink($log);
        }
    }

    private static function fails(Container $container): void
    {
        $defer = $container['defer'];
        self::assertInstanceOf(Defer::class, $defer);
        $defer->defer(static fn () => throw new \RuntimeException('no mail'));
        $defer->run();
    }
}
