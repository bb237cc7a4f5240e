<?php

declare(strict_types=1);

namespace Deferd\Testing;

use Deferd\Defer;
use Deferd\JobInterface;
use Deferd\Task;
use Deferd\Text;
use PHPUnit\Framework\Assert;

/**
 * For tests of an application: records what is deferred, and runs it at once or when the test says so, without
 * catching what it throws.
 *
 *     $defer = Deferd\Defer::fake();
 *     $controller = new SignUp($defer);
 *     $controller($request);
 *     $defer->assertDeferred('welcome mail');
 *     $defer->runDeferred();
 *
 * A filter is a name, or a callable that gets a Task and says whether it is meant.
 */
final class FakeDefer extends Defer
{
    /** @var list<Task> */
    private array $tasks = [];

    /**
     * @param bool $inline whether each callback runs at once
     */
    public function __construct(private readonly bool $inline = false)
    {
        parent::__construct();
    }

    public function defer(callable|JobInterface $callback, ?string $name = null, bool $replace = false): Task
    {
        $task = new Task($callback, $name);
        if ($replace) {
            $this->forget($task->name());
        }
        $this->tasks[] = $task;
        if ($this->inline) {
            self::runTask($task);
        }

        return $task;
    }

    public function forget(string $name): void
    {
        $name = Text::clip($name, Task::NAME);
        foreach ($this->waiting() as $task) {
            if ($task->name() === $name) {
                $task->drop();
            }
        }
    }

    public function count(): int
    {
        return count($this->waiting());
    }

    public function names(): array
    {
        return array_map(static fn (Task $task): string => $task->name(), $this->waiting());
    }

    /**
     * Does nothing: an application's run() must not run what a test has not looked at.
     */
    public function run(): void
    {
    }

    public function finishResponse(): bool
    {
        return false;
    }

    /**
     * What was deferred and not taken out again, run or not.
     *
     * @return list<Task>
     */
    public function tasks(): array
    {
        return array_values(array_filter($this->tasks, static fn (Task $task): bool => !$task->wasDropped()));
    }

    /**
     * Runs what waits, in order, what is deferred meanwhile too.
     *
     * @throws \Throwable what a callback throws
     */
    public function runDeferred(): void
    {
        while (($task = $this->waiting()[0] ?? null) !== null) {
            self::runTask($task);
        }
    }

    /**
     * @param string|callable(Task): bool $filter a string is a name
     */
    public function assertDeferred(string|callable $filter): void
    {
        Assert::assertNotSame([], $this->matching($filter), self::describe($filter) . ' was not deferred');
    }

    /**
     * @param string|callable(Task): bool $filter a string is a name
     */
    public function assertNotDeferred(string|callable $filter): void
    {
        Assert::assertSame([], $this->matching($filter), self::describe($filter) . ' was deferred');
    }

    public function assertDeferredCount(int $count): void
    {
        Assert::assertCount($count, $this->tasks(), 'callbacks that were deferred');
    }

    public function assertNothingDeferred(): void
    {
        $names = array_map(static fn (Task $task): string => $task->name(), $this->tasks());
        Assert::assertSame([], $names, 'something was deferred');
    }

    private static function runTask(Task $task): void
    {
        $task->begin();
        try {
            $task->run();
        } finally {
            $task->end();
        }
    }

    /**
     * @return list<Task>
     */
    private function waiting(): array
    {
        return array_values(array_filter($this->tasks, static fn (Task $task): bool => $task->waits()));
    }

    /**
     * @param string|callable(Task): bool $filter
     *
     * @return list<Task>
     */
    private function matching(string|callable $filter): array
    {
        // A name may be that of a function.
        $name = is_string($filter) ? Text::clip($filter, Task::NAME) : '';
        $matches = is_string($filter) ? static fn (Task $task): bool => $task->name() === $name : $filter;

        return array_values(array_filter($this->tasks(), $matches));
    }

    private static function describe(string|callable $filter): string
    {
        return is_string($filter) ? $filter : 'such a callback';
    }
}
