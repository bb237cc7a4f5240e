<?php

declare(strict_types=1);

namespace Deferd;

/**
 * After-response work that somebody else calls (a framework's own listeners, middleware and callbacks), made visible
 * to deferd.
 *
 *     $listener = Deferd\Watch::callback($listener, 'App\Listener\SendReport::onTerminate');
 */
final class Watch
{
    /**
     * Announces a callback that somebody is going to call after the response, and returns what is to be called in
     * its place: a closure that passes its arguments on and reports when it starts, and whether it returned or
     * threw. What it throws goes on to the caller, what it returns too. If an operator has asked for a stop by
     * then, the callback is not called and the closure returns null.
     *
     * Called before the response was ended by us, the closure just calls the callback; without deferd it is the
     * callback. What is never called is reported as skipped at the end of the request.
     *
     * @param string|null $name as in Defer::defer()
     */
    public static function callback(callable $callback, ?string $name = null): \Closure
    {
        if (!Channel::current()->behindDeferd()) {
            return $callback(...);
        }
        $phase = Phase::current();
        $task = new Task($callback, $name);
        $phase->watch($task);

        return static fn (mixed ...$arguments): mixed => $phase->call($task, $callback, $arguments);
    }
}
