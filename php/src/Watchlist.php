<?php

declare(strict_types=1);

namespace Deferd;

/**
 * The tasks that somebody else calls (Watch).
 *
 * @internal
 */
final class Watchlist
{
    /** Whether one of them has failed. */
    public bool $failed = false;

    /** @var array<int, Task> by object id */
    private array $waiting = [];

    /** @var array<int, Task> by object id; one may call another */
    private array $running = [];

    /** @var array<int, Stopwatch> by object id */
    private array $watches = [];

    public function __construct(private readonly Channel $channel, private readonly Journal $journal)
    {
    }

    /**
     * Announces it, if the phase has begun; otherwise that is done when it begins.
     */
    public function add(Task $task): void
    {
        $this->waiting[spl_object_id($task)] = $task;
        if ($this->journal->hasBegun()) {
            $this->channel->freshLine();
            $this->journal->announce([$task]);
            $this->channel->flush();
        }
    }

    /**
     * @return list<Task> those that nobody has called
     */
    public function waiting(): array
    {
        return array_values($this->waiting);
    }

    /**
     * The one that runs; the innermost if there are several.
     */
    public function running(): ?Task
    {
        return $this->running === [] ? null : end($this->running);
    }

    public function isOpen(): bool
    {
        return $this->waiting !== [] || $this->running !== [];
    }

    /**
     * Calls it, the first time with reports.
     *
     * @param array<mixed> $arguments
     *
     * @return mixed what the callback returns; null if it is not to be called
     *
     * @throws \Throwable what the callback throws
     */
    public function call(Task $task, callable $callback, array $arguments): mixed
    {
        unset($this->waiting[spl_object_id($task)]);
        if ($task->index === null || !$task->waits()) {
            $task->drop();

            return $callback(...$arguments);
        }
        if ($this->channel->stopRequested()) {
            $this->skip($task, 'stopped');

            return null;
        }
        $this->start($task);
        $guard = new ExitGuard(fn () => $this->fail($task, 'exit: the callback ended with exit() or die()'));
        try {
            $result = $callback(...$arguments);
            $this->end($task, null);

            return $result;
        } catch (\Throwable $error) {
            $this->fail($task, Failure::of($error));

            throw $error;
        } finally {
            $guard->disarm();
        }
    }

    /**
     * Those that run have not ended.
     */
    public function failRunning(string $what): void
    {
        foreach (array_reverse($this->running) as $task) {
            $this->fail($task, $what);
        }
    }

    /**
     * Nobody is going to call those that wait.
     */
    public function skipWaiting(string $why): void
    {
        foreach ($this->waiting as $task) {
            $this->skip($task, $why);
        }
        $this->waiting = [];
    }

    private function fail(Task $task, string $what): void
    {
        $this->failed = true;
        $this->end($task, $what);
    }

    private function start(Task $task): void
    {
        $this->running[spl_object_id($task)] = $task;
        $this->watches[spl_object_id($task)] = new Stopwatch();
        $task->begin();
        $this->channel->freshLine();
        $this->journal->start($task);
        $this->channel->flush();
    }

    /**
     * @param string|null $what what went wrong; null if it returned
     */
    private function end(Task $task, ?string $what): void
    {
        // One that was left in a Fiber may still go on when it has been accounted for.
        if (!isset($this->running[spl_object_id($task)])) {
            return;
        }
        $ms = $this->watches[spl_object_id($task)]->ms();
        unset($this->running[spl_object_id($task)], $this->watches[spl_object_id($task)]);
        $task->end();
        $this->channel->freshLine();
        $what === null ? $this->journal->done($task, $ms) : $this->journal->fail($task, $ms, $what);
        $this->channel->flush();
    }

    private function skip(Task $task, string $why): void
    {
        $task->drop();
        $this->channel->freshLine();
        $this->journal->skip($task, $why);
        $this->channel->flush();
    }
}
