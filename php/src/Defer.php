<?php

declare(strict_types=1);

namespace Deferd;

/**
 * Work to be done after the client has its response.
 *
 *     $defer = new Deferd\Defer();
 *     $defer->defer(fn () => $mailer->send($mail));   // anywhere in the request
 *     …
 *     $defer->run();                                  // after the response was written
 *
 * Nobody has to call run(): what is left at the end of the request runs then, also after exit, an
 * uncaught exception or a fatal error in the main code. Behind deferd the response ends with the
 * end-of-response marker; without it fastcgi_finish_request() or litespeed_finish_request() ends it;
 * where PHP has neither, the callbacks run after the output.
 *
 * A callback is called without arguments. What it prints is dropped; what it throws is logged, and
 * the next one runs.
 */
final class Defer
{
    private readonly TaskQueue $queue;

    public function __construct()
    {
        $this->queue = new TaskQueue();
        // Takes the token out of $_SERVER as early as we can.
        Channel::current();
    }

    /**
     * Registers a callback. A callback that is running may register more; they run after those that
     * are already waiting.
     *
     * @param string|null $name what operators see; derived from the callback when null or empty:
     *                          function, Class::method, or a closure's file:line
     */
    public function defer(callable $callback, ?string $name = null): static
    {
        $this->queue->add(new Task($callback, $name));
        Phase::current()->expect($this->queue);

        return $this;
    }

    /**
     * Whether no callback waits to be started.
     */
    public function isEmpty(): bool
    {
        return $this->queue->isEmpty();
    }

    /**
     * Ends the response and runs the callbacks, in order, each once. Never throws. With nothing to run it
     * does nothing at all. Called from within a callback it returns at once: what waits then runs after
     * the callbacks that were registered earlier.
     */
    public function run(): void
    {
        if (!$this->queue->isEmpty()) {
            Phase::current()->run($this->queue);
        }
    }

    /**
     * Ends the response now, whether or not anything is deferred: closes the session, sends what the output
     * buffers hold, and lets the client go. What the request prints from here on reaches nobody.
     *
     * @return bool true if the client has the complete response; false where PHP cannot tell it so before
     *              the request's end (CLI, mod_php, PHP's own web server, or an output buffer that
     *              cannot be removed)
     */
    public function finishResponse(): bool
    {
        return Phase::current()->finishResponse();
    }
}
