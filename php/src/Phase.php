<?php

declare(strict_types=1);

namespace Deferd;

/**
 * The deferred phase of this request: ends the response, runs the tasks of every Defer that was told to run, one
 * after the other, and at the end of the request those that nobody ran; reports those that somebody else runs.
 *
 * A task that throws is reported and the next one runs. So it is after exit() in a task. A fatal error in a task is
 * the end: what has not started is not run, and reported as such.
 *
 * @internal
 */
final class Phase
{
    private const LEFT = 'it was left in a Fiber';

    private static ?self $current = null;

    private readonly Channel $channel;
    private readonly Journal $journal;
    private readonly Silence $silence;
    private readonly int $pid;

    private ?AtExit $atExit = null;

    /** @var array<int, TaskQueue> by object id: those with tasks that nobody has run */
    private array $expected = [];

    /** @var array<int, TaskQueue> by object id: those that run now, in the order of their run() calls */
    private array $queues = [];

    /** @var array<int, TaskQueue> by object id: those of them that may have tasks which are not in line yet */
    private array $fresh = [];

    /** @var \SplQueue<Task> the tasks of those, in the order in which they run */
    private \SplQueue $line;

    /** Those that somebody else calls. */
    private readonly Watchlist $watched;

    /** What follows a fastcgi_finish_request(). */
    private ?Rest $rest = null;

    private bool $running = false;
    private ?Task $task = null;
    private ?Stopwatch $stopwatch = null;

    private function __construct()
    {
        $this->channel = Channel::current();
        $this->journal = new Journal($this->channel, self::pid());
        $this->silence = new Silence(fn (): string => $this->lastWords());
        $this->watched = new Watchlist($this->channel, $this->journal);
        $this->pid = self::pid();
        $this->line = new \SplQueue();
    }

    public static function current(): self
    {
        // A forked child is not to run what its parent has deferred.
        if (self::$current === null || self::$current->pid !== self::pid()) {
            self::$current = new self();
        }

        return self::$current;
    }

    /**
     * Makes sure that this queue's tasks are run, at the end of the request at the latest.
     */
    public function expect(TaskQueue $queue): void
    {
        $id = spl_object_id($queue);
        $this->expected[$id] = $queue;
        if (isset($this->queues[$id])) {
            $this->fresh[$id] = $queue;
        }
        $this->endAtExit();
    }

    /**
     * Ends the response and runs the tasks in this queue. From within a task, they run when it is their turn.
     */
    public function run(TaskQueue $queue): void
    {
        $this->take($queue);
        if (!$this->running) {
            $this->begin(atExit: false);
        }
    }

    /**
     * Ends the response; tasks or not.
     *
     * @return bool whether the client has the complete response
     */
    public function finishResponse(): bool
    {
        // Within a task it is ended, as far as it can be, and the buffers belong to the task.
        if (!$this->running) {
            Channel::closeSession();
            $this->channel->finish(atExit: false);
            $this->channel->flush();
            $this->channel->hush();
        }

        return $this->channel->finished();
    }

    /**
     * Ends the response and begins the phase, which then lasts until the end of the request.
     *
     * @return bool whether the client has the complete response by this
     */
    public function finishRequest(bool $restIsTask): bool
    {
        if ($this->running || $this->channel->finished()) {
            return false;
        }
        $this->channel->finish(atExit: false);
        if ($this->channel->reports()) {
            $this->endAtExit();
            $this->rest = new Rest($this->journal);
            $tasks = [...$this->watched->waiting(), ...$this->waiting()];
            if ($tasks === [] && $restIsTask) {
                $this->rest->start();
            } else {
                $this->journal->begin($tasks);
            }
        }
        $this->channel->flush();
        $this->channel->hush();

        return $this->channel->finished();
    }

    /**
     * Announces a task that somebody else is going to call.
     */
    public function watch(Task $task): void
    {
        $this->endAtExit();
        $this->watched->add($task);
    }

    /**
     * @param array<mixed> $arguments
     */
    public function call(Task $task, callable $callback, array $arguments): mixed
    {
        // In a forked child there is nobody to report to.
        return $this->pid === self::pid()
            ? $this->watched->call($task, $callback, $arguments)
            : $callback(...$arguments);
    }

    /**
     * A task that has a number was cancelled.
     */
    public function skip(Task $task, string $why): void
    {
        $this->channel->freshLine();
        $this->journal->skip($task, $why);
        $this->channel->flush();
    }

    public function progress(Task $task, float $ratio, string $text): void
    {
        if (!$this->journal->progress($task, $ratio, $text)) {
            return;
        }
        if ($this->silence->holds()) {
            $this->silence->pass($this->channel->take());
        } else {
            $this->channel->freshLine();
            $this->channel->flush();
        }
    }

    private function endAtExit(): void
    {
        $this->atExit ??= new AtExit(fn () => $this->end());
    }

    /**
     * The end of the request: the main code, and whatever it was doing, is over.
     */
    private function end(): void
    {
        $this->atExit = null;
        if ($this->pid !== self::pid()) {
            return;
        }
        $error = Failure::fatalError();
        $this->endRunning($error);
        $this->channel->resume();
        $this->rest?->end($error, $this->watched->failed);
        $this->rest = null;
        foreach ($this->expected as $queue) {
            if ($queue->waiting() !== []) {
                $this->take($queue);
            }
        }
        if ($this->queues !== []) {
            $this->begin(atExit: true);
        }
        $this->watched->skipWaiting('not called');
        $this->journal->end();
        $this->channel->flush();
        $this->channel->hush();
    }

    /**
     * A task that still runs when the main code is over was ended by a fatal error, or waits in a Fiber.
     */
    private function endRunning(?\ErrorException $error): void
    {
        $task = $this->watched->running() ?? $this->task;
        if ($task !== null && $error !== null) {
            $ours = $this->task;
            $dropped = $this->giveUp($task, $error);
            if ($ours !== null) {
                $ours->failures?->tell($ours, Failure::ofFatalError($error), $error);
            }
            foreach ($dropped as $other) {
                $other->failures?->log($other, self::notRun($task));
            }
            $this->silence->end();
        } elseif ($this->task !== null) {
            $this->settle($this->task, self::LEFT, new \RuntimeException(self::LEFT));
        }
        $this->watched->failRunning(self::LEFT);
    }

    private function take(TaskQueue $queue): void
    {
        $id = spl_object_id($queue);
        $this->queues[$id] = $queue;
        $this->fresh[$id] = $queue;
    }

    private function begin(bool $atExit): void
    {
        $this->running = true;
        Channel::closeSession();
        $this->channel->finish($atExit);
        $this->channel->resume();
        $this->journal->announce($this->watched->waiting());
        $this->work();
    }

    private function work(): void
    {
        $guard = new ExitGuard(fn () => $this->goOnAfterExit());
        while (($task = $this->next()) !== null) {
            if (!$task->waits()) {
                continue;
            }
            $why = $this->channel->stopRequested() ? 'stopped' : $task->whyNot();
            if ($why !== null) {
                $task->drop();
                $this->journal->skip($task, $why);
            } else {
                $this->journal->start($task);
                $this->channel->flush();
                $this->attempt($task);
            }
        }
        if ($this->rest === null && !$this->watched->isOpen()) {
            $this->journal->end();
        }
        $this->channel->flush();
        $this->channel->hush();
        $this->queues = [];
        $this->expected = array_filter($this->expected, static fn (TaskQueue $queue): bool => $queue->waiting() !== []);
        $this->running = false;
        $guard->disarm();
    }

    private function goOnAfterExit(): void
    {
        // A child that a task forked is to exit and nothing else. And a Fiber that a task suspended may be given up
        // when all is done.
        if ($this->pid !== self::pid() || !$this->running) {
            return;
        }
        if ($this->task !== null) {
            $exit = new \RuntimeException('the callback ended with exit() or die()');
            $this->settle($this->task, 'exit: ' . $exit->getMessage(), $exit);
        }
        // It may have been the application's handler of a failure that ended so.
        $this->silence->end();
        $this->work();
    }

    /**
     * The next task in line, after those that were registered meanwhile have joined it.
     */
    private function next(): ?Task
    {
        foreach ($this->fresh as $queue) {
            $fresh = $queue->takeFresh();
            $this->journal->announce($fresh);
            foreach ($fresh as $task) {
                $this->line->enqueue($task);
            }
        }
        $this->fresh = [];

        return $this->line->isEmpty() ? null : $this->line->dequeue();
    }

    /**
     * All that wait in any Defer.
     *
     * @return list<Task>
     */
    private function waiting(): array
    {
        return array_merge(...array_map(
            static fn (TaskQueue $queue): array => $queue->waiting(),
            array_values($this->expected + $this->queues)
        ));
    }

    private function attempt(Task $task): void
    {
        // So that a fatal error found later is this task's.
        error_clear_last();
        $this->task = $task;
        $this->stopwatch = new Stopwatch();
        $this->silence->begin();
        $task->begin();
        $what = null;
        $error = null;
        try {
            $task->run();
        } catch (\Throwable $error) {
            $what = Failure::of($error);
        }
        $this->settle($task, $what, $error);
    }

    /**
     * @param string|null $what what went wrong; null if it returned
     */
    private function settle(Task $task, ?string $what = null, ?\Throwable $error = null): void
    {
        $this->report($task, $what);
        if ($what !== null && $error !== null) {
            $task->failures?->tell($task, $what, $error);
        }
        if (!$this->silence->end()) {
            $this->channel->freshLine();
        }
    }

    private function report(Task $task, ?string $what): void
    {
        $ms = $this->stopwatch?->ms() ?? 0.0;
        $this->task = null;
        $task->end();
        $what === null ? $this->journal->done($task, $ms) : $this->journal->fail($task, $ms, $what);
    }

    /**
     * What PHP writes for us if a fatal error has ended a task and it calls nothing else of ours. The application's
     * logger is not called here: PHP forbids too much in an output callback.
     */
    private function lastWords(): string
    {
        $task = $this->watched->running() ?? $this->task;
        $error = Failure::fatalError();
        if ($task === null || $error === null) {
            return '';
        }
        $dropped = $this->giveUp($task, $error);
        Failures::write($task, 'failed: ' . Failure::ofFatalError($error));
        foreach ($dropped as $other) {
            Failures::write($other, self::notRun($task));
        }

        return $this->channel->reports() ? $this->channel->take() : '';
    }

    /**
     * After a fatal error in this task: accounts for it and for all that are not run.
     *
     * @return list<Task> those of every Defer that are not run
     */
    private function giveUp(Task $task, \ErrorException $error): array
    {
        $this->watched->failRunning(Failure::ofFatalError($error));
        if ($this->task !== null) {
            $this->report($this->task, Failure::ofFatalError($error));
        }
        $dropped = $this->waiting();
        $this->journal->announce($dropped);
        foreach ($dropped as $other) {
            $other->drop();
            $this->journal->skip($other, self::notRun($task));
        }
        $this->queues = [];
        $this->watched->skipWaiting(self::notRun($task));
        $this->journal->end();

        return $dropped;
    }

    private static function notRun(Task $task): string
    {
        return "not run: fatal error in {$task->name()}";
    }

    /**
     * 0 where administrators have switched getmypid() off.
     */
    private static function pid(): int
    {
        return function_exists('getmypid') ? (int) getmypid() : 0;
    }
}
