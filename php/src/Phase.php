<?php

declare(strict_types=1);

namespace Deferd;

/**
 * The deferred phase of this request: ends the response, runs the tasks of every Defer that was told to run, one
 * after the other, and at the end of the request those that nobody ran.
 *
 * A task that throws is reported and the next one runs. So it is after exit() in a task, and after a fatal error in
 * a task if the main code called run(). A fatal error during the shutdown is the end: PHP then calls no function of
 * ours any more.
 *
 * @internal
 */
final class Phase
{
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

    /** @var \SplQueue<TaskQueue> for each announced task, in the order of their numbers, where it waits */
    private \SplQueue $line;

    private bool $running = false;
    private ?Task $task = null;
    private int $startedAt = 0;

    private function __construct()
    {
        $this->channel = Channel::current();
        $this->journal = new Journal($this->channel, self::pid());
        $this->silence = new Silence();
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
        $this->expected[spl_object_id($queue)] = $queue;
        $this->atExit ??= new AtExit($this->runExpected(...));
    }

    /**
     * Ends the response and runs the tasks in this queue. From within a task, they run when it is their turn.
     */
    public function run(TaskQueue $queue): void
    {
        $this->queues[spl_object_id($queue)] = $queue;
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
            $this->channel->finish(atExit: false);
            $this->channel->flush();
        }

        return $this->channel->finished();
    }

    /**
     * The end of the request: the main code, and whatever it was doing, is over.
     */
    private function runExpected(): void
    {
        $this->atExit = null;
        if ($this->pid !== self::pid()) {
            return;
        }
        if ($this->task !== null) {
            $this->settle($this->task, Failure::ofFatalError());
        }
        foreach ($this->expected as $id => $queue) {
            if (!$queue->isEmpty()) {
                $this->queues[$id] = $queue;
            }
        }
        if ($this->queues !== []) {
            $this->begin(atExit: true);
        }
    }

    private function begin(bool $atExit): void
    {
        $this->running = true;
        $this->channel->finish($atExit);
        $this->channel->resume();
        $this->work();
    }

    private function work(): void
    {
        $guard = new ExitGuard($this->goOnAfterExit(...));
        while (($task = $this->next()) !== null) {
            if ($this->channel->stopRequested()) {
                $this->journal->skip($task, 'stopped');
                continue;
            }
            $this->journal->start($task);
            $this->task = $task;
            $this->startedAt = hrtime(true);
            $this->silence->begin();
            $this->settle($task, self::attempt($task));
        }
        $this->journal->end();
        $this->queues = [];
        $this->expected = array_filter($this->expected, static fn (TaskQueue $queue): bool => !$queue->isEmpty());
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
            $this->settle($this->task, Failure::ofExit());
        }
        $this->work();
    }

    /**
     * The next task in line, after those that were registered meanwhile have joined it.
     */
    private function next(): ?Task
    {
        $fresh = [];
        foreach ($this->queues as $queue) {
            foreach ($queue->takeFresh() as $task) {
                $fresh[] = $task;
                $this->line->enqueue($queue);
            }
        }
        $this->journal->announce($fresh);

        return $this->line->isEmpty() ? null : $this->line->dequeue()->next();
    }

    /**
     * @return string|null what went wrong
     */
    private static function attempt(Task $task): ?string
    {
        try {
            $task->run();

            return null;
        } catch (\Throwable $error) {
            return Failure::of($error);
        }
    }

    /**
     * @param string|null $error null if it returned
     */
    private function settle(Task $task, ?string $error): void
    {
        $ms = round((hrtime(true) - $this->startedAt) / 1e6, 3);
        $this->task = null;
        if (!$this->silence->end()) {
            $this->channel->freshLine();
        }
        if ($error === null) {
            $this->journal->done($task, $ms);
        } else {
            $this->journal->fail($task, $ms, $error);
        }
    }

    /**
     * 0 where administrators have switched getmypid() off.
     */
    private static function pid(): int
    {
        return function_exists('getmypid') ? (int) getmypid() : 0;
    }
}
