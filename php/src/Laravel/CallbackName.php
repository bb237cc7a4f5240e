<?php

declare(strict_types=1);

namespace Deferd\Laravel;

use Deferd\TaskName;
use Illuminate\Foundation\Application;
use Illuminate\Support\Defer\DeferredCallback;
use Illuminate\Support\Str;

/**
 * What operators see of a callback that Laravel holds.
 *
 * @internal
 */
final class CallbackName
{
    /**
     * The name it was given; one that was given none has a UUID from Laravel.
     */
    public static function ofDeferred(DeferredCallback $deferred): string
    {
        if ($deferred->name !== null && !Str::isUuid($deferred->name)) {
            return $deferred->name;
        }

        return self::ofJob($deferred->callback) ?? TaskName::of($deferred->callback);
    }

    /**
     * @param callable|string $callback what Application::call() takes
     *
     * @return string|null null for Laravel's own housekeeping, and ours, which nobody waits for
     */
    public static function ofTerminating(callable|string $callback): ?string
    {
        if ($callback instanceof \Closure && (self::isLaravels($callback) || self::isIn(__DIR__, $callback))) {
            return self::ofJob($callback);
        }

        // A string may also be a class, or 'Class@method', of which the container makes the object.
        return is_string($callback) ? $callback : TaskName::of($callback);
    }

    /**
     * The job that one of Laravel's closures is about, by the name that Laravel has for it in queues.
     */
    private static function ofJob(callable $callback): ?string
    {
        if (!$callback instanceof \Closure || !self::isLaravels($callback)) {
            return null;
        }
        $used = (new \ReflectionFunction($callback))->getStaticVariables();
        // Of dispatchAfterResponse(), the same of a batch, and the queue connection "deferred".
        $job = $used['command'] ?? $used['batch'] ?? $used['job'] ?? null;
        if (!is_object($job)) {
            return is_string($job) ? $job : null;
        }
        $name = method_exists($job, 'displayName') ? $job->displayName() : null;

        return is_string($name) ? $name : $job::class;
    }

    private static function isLaravels(\Closure $closure): bool
    {
        return self::isIn(dirname((string) (new \ReflectionClass(Application::class))->getFileName(), 2), $closure);
    }

    /**
     * By the file, for the class that a closure belongs to says little: a file with routes is included by a method of
     * Laravel's, and so its closures are of that class.
     */
    private static function isIn(string $directory, \Closure $closure): bool
    {
        return str_starts_with((string) (new \ReflectionFunction($closure))->getFileName(), "$directory/");
    }
}
