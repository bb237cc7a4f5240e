<?php

declare(strict_types=1);

namespace Deferd;

use Deferd\Testing\FakeDefer;
use Psr\Log\LoggerInterface;

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
 * What a callback prints is dropped; what it throws is logged, and the next one runs.
 */
class Defer implements \Countable
{
    /** @var (\Closure(\Throwable, Task): mixed)|null */
    private readonly ?\Closure $onFailure;

    /** Made with the first task: most requests have none. */
    private ?TaskQueue $queue = null;
    private ?Failures $failures = null;

    /**
     * @param LoggerInterface|null                                  $logger      hears of callbacks that failed; PHP's
     *                                                                           error log if null
     * @param (callable(\Throwable $error, Task $task): mixed)|null $onFailure   is called for each that failed
     * @param bool                                                  $skipOnError whether an error response (status 400
     *                                                                           and above) skips callbacks that are
     *                                                                           not always() to be run
     */
    public function __construct(
        private readonly ?LoggerInterface $logger = null,
        ?callable $onFailure = null,
        private readonly bool $skipOnError = false,
    ) {
        $this->onFailure = $onFailure === null ? null : $onFailure(...);
    }

    /**
     * For tests of an application: a Defer that records what is deferred and has PHPUnit assertions.
     *
     * @param bool $inline whether it also runs each callback at once
     */
    public static function fake(bool $inline = false): FakeDefer
    {
        return new FakeDefer($inline);
    }

    /**
     * Registers a callback. A callback that is running may register more; they run after those that
     * are already waiting.
     *
     * The callback is given its Task if its first parameter is required or declared as one. Of a job, job() is
     * called and then callback() with the result.
     *
     * @param string|null $name    what operators see; derived from the callback when null or empty:
     *                             function, Class::method, a closure's file:line, or a job's class
     * @param bool        $replace whether it takes the place of those of that name that have not started
     */
    public function defer(callable|JobInterface $callback, ?string $name = null, bool $replace = false): Task
    {
        $this->failures ??= new Failures($this->logger, $this->onFailure);
        $task = new Task($callback, $name, $this->skipOnError, $this->failures);
        if ($replace) {
            $this->skip($task->name(), 'replaced');
        }
        $this->queue ??= new TaskQueue();
        $this->queue->add($task);
        Phase::current()->expect($this->queue);

        return $task;
    }

    /**
     * Takes out the callbacks of this name that have not started.
     */
    public function forget(string $name): void
    {
        $this->skip(Text::clip($name, Task::NAME), 'cancelled');
    }

    /**
     * How many callbacks wait to be started.
     */
    public function count(): int
    {
        return count($this->waiting());
    }

    /**
     * The names of the callbacks that wait to be started, in their order.
     *
     * @return list<string>
     */
    public function names(): array
    {
        return array_map(static fn (Task $task): string => $task->name(), $this->waiting());
    }

    /**
     * Whether no callback waits to be started.
     */
    public function isEmpty(): bool
    {
        return $this->count() === 0;
    }

    /**
     * Ends the response and runs the callbacks, in order, each once. Never throws. With nothing to run it
     * does nothing at all. Called from within a callback it returns at once: what waits then runs after
     * the callbacks that were registered earlier.
     */
    public function run(): void
    {
        if ($this->queue !== null && $this->queue->waiting() !== []) {
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

    private function skip(string $name, string $why): void
    {
        foreach ($this->queue?->named($name) ?? [] as $task) {
            $task->skip($why);
        }
    }

    /**
     * @return list<Task>
     */
    private function waiting(): array
    {
        return $this->queue?->waiting() ?? [];
    }
}
