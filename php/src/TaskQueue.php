<?php

declare(strict_types=1);

namespace Deferd;

/**
 * The callbacks of one Defer that were not started yet, first in, first out.
 *
 * @internal
 */
final class TaskQueue
{
    /** @var \SplQueue<Task> */
    private \SplQueue $waiting;

    /** @var list<Task> those of the waiting that takeFresh() has not handed out */
    private array $fresh = [];

    public function __construct()
    {
        $this->waiting = new \SplQueue();
    }

    public function add(Task $task): void
    {
        $this->waiting->enqueue($task);
        $this->fresh[] = $task;
    }

    public function isEmpty(): bool
    {
        return $this->waiting->isEmpty();
    }

    /**
     * The tasks added since the last call, which stay in the queue.
     *
     * @return list<Task>
     */
    public function takeFresh(): array
    {
        $fresh = $this->fresh;
        $this->fresh = [];

        return $fresh;
    }

    /**
     * Takes the first task out.
     *
     * @throws \RuntimeException when the queue is empty
     */
    public function next(): Task
    {
        return $this->waiting->dequeue();
    }
}
