<?php

declare(strict_types=1);

namespace Deferd;

/**
 * The callbacks of one Defer, first in, first out.
 *
 * @internal
 */
final class TaskQueue
{
    /** @var list<Task> those that wait, and some that no longer do */
    private array $tasks = [];

    /** @var list<Task> those that takeFresh() has not handed out */
    private array $fresh = [];

    /** @var array<string, list<Task>> by name, and some that had it before or no longer wait */
    private array $named = [];

    public function add(Task $task): void
    {
        $this->tasks[] = $task;
        $this->fresh[] = $task;
        $task->queue = $this;
        $this->name($task);
    }

    /**
     * It has a name, or another than before.
     */
    public function name(Task $task): void
    {
        $this->named[$task->name()][] = $task;
    }

    /**
     * Those that were neither started nor cancelled.
     *
     * @return list<Task>
     */
    public function waiting(): array
    {
        return $this->tasks = array_values(array_filter($this->tasks, static fn (Task $task): bool => $task->waits()));
    }

    /**
     * Those of them that have this name.
     *
     * @return list<Task>
     */
    public function named(string $name): array
    {
        $named = [];
        foreach ($this->named[$name] ?? [] as $task) {
            if ($task->waits() && $task->name() === $name) {
                $named[] = $task;
            }
        }

        return $this->named[$name] = $named;
    }

    /**
     * The tasks added since the last call, but for those that were cancelled.
     *
     * @return list<Task>
     */
    public function takeFresh(): array
    {
        $fresh = $this->fresh;
        $this->fresh = [];

        return array_values(array_filter($fresh, static fn (Task $task): bool => $task->waits()));
    }
}
