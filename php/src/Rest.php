<?php

declare(strict_types=1);

namespace Deferd;

/**
 * What the program does after a fastcgi_finish_request(), as a task.
 *
 * @internal
 */
final class Rest
{
    private const INCLUDES = ['include', 'include_once', 'require', 'require_once'];

    private readonly Task $task;
    private readonly int $startedAt;

    public function __construct(private readonly Journal $journal)
    {
        $this->task = new Task(static fn (): null => null, self::caller());
        $this->startedAt = hrtime(true);
    }

    public function start(): void
    {
        $this->journal->announce([$this->task]);
        $this->journal->start($this->task);
    }

    /**
     * The program is over. A rest that was not started is a task only if it failed.
     *
     * @param bool $explained whether a task of those that failed may have been the cause
     */
    public function end(?\ErrorException $error, bool $explained): void
    {
        if ($this->task->index === null) {
            if ($error === null || $explained) {
                return;
            }
            $this->start();
        }
        $ms = round((hrtime(true) - $this->startedAt) / 1e6, 3);
        $error === null
            ? $this->journal->done($this->task, $ms)
            : $this->journal->fail($this->task, $ms, Failure::ofFatalError($error));
    }

    /**
     * Who called fastcgi_finish_request(): a function, Class::method, or file:line.
     */
    private static function caller(): string
    {
        $where = 'rest';
        foreach (debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS) as $frame) {
            $function = isset($frame['class']) ? "{$frame['class']}::{$frame['function']}" : $frame['function'];
            if (str_starts_with($function, 'Deferd\\') || str_ends_with($function, 'fastcgi_finish_request')) {
                $where = ($frame['file'] ?? $where) . ':' . ($frame['line'] ?? 0);
                continue;
            }
            $named = !str_contains($function, '{closure') && !in_array($function, self::INCLUDES, true);

            return $named ? explode("\0", $function)[0] : $where;
        }

        return $where;
    }
}
