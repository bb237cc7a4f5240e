<?php

declare(strict_types=1);

namespace Deferd\Laravel\Facades;

use Deferd\Defer as Service;
use Deferd\JobInterface;
use Deferd\Task;
use Deferd\Testing\FakeDefer;
use Illuminate\Support\Facades\Facade;

/**
 * @method static Task defer(callable|JobInterface $callback, ?string $name = null, bool $replace = false)
 * @method static void forget(string $name)
 * @method static int count()
 * @method static list<string> names()
 * @method static bool isEmpty()
 * @method static void run()
 * @method static bool finishResponse()
 * @method static void assertDeferred(string|callable $filter)
 * @method static void assertNotDeferred(string|callable $filter)
 * @method static void assertDeferredCount(int $count)
 * @method static void assertNothingDeferred()
 * @method static void runDeferred()
 *
 * The assertions are the fake's.
 *
 * @see Service
 * @see FakeDefer
 */
final class Defer extends Facade
{
    /** The next request, where the process has one, has another Defer. */
    protected static $cached = false;

    /**
     * Puts a fake in the place of the application's Defer, for tests.
     */
    public static function fake(bool $inline = false): FakeDefer
    {
        $fake = Service::fake($inline);
        self::swap($fake);

        return $fake;
    }

    protected static function getFacadeAccessor(): string
    {
        return Service::class;
    }
}
