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
    private readonly Stopwatch $watch;

    public function __construct(private readonly Journal $journal)
    {
        $this->task = new Task(static fn () => null, Text::tail(self::caller(), Task::NAME));
        $this->watch = new Stopwatch();
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
        $error === null
            ? $this->journal->done($this->task, $this->watch->ms())
            : $this->journal->fail($this->task, $this->watch->ms(), Failure::ofFatalError($error));
    }

    /**
     * Who called fastcgi_finish_request(): a function, Class::method, or file:line.
     */
    private static function caller(): string
    {
        $where = 'rest';
        foreach (debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS) as $frame) {
            $function = $frame['function'];
            $name = isset($frame['class']) ? TaskName::ofMethod($frame['class'], $function) : $function;
            if (str_starts_with($name, 'Deferd\\') || str_ends_with($name, 'fastcgi_finish_request')) {
                // Without a file, PHP itself called it: as a shutdown function, for example.
                $where = isset($frame['file'], $frame['line']) ? "{$frame['file']}:{$frame['line']}" : 'rest';
                continue;
            }
            $named = !str_contains($function, '{closure') && !in_array($function, self::INCLUDES, true);

            return $named ? $name : $where;
        }

        return $where;
    }
}
