<?php

declare(strict_types=1);

namespace Deferd;

/**
 * What happens to the tasks, told to deferd in lines of JSON (docs/protocol.md), and to PHP's error log when one
 * fails. Without deferd only the log remains.
 *
 * @internal
 */
final class Journal
{
    /** For names in one line: a line has at most 8192 bytes, newline included (docs/protocol.md). */
    private const ROOM = 8192 - 64;

    private bool $begun = false;
    private int $announced = 0;

    public function __construct(private readonly Channel $channel, private readonly int $pid)
    {
    }

    /**
     * Numbers the tasks and names them to deferd, in as many lines as it takes.
     *
     * @param list<Task> $tasks
     */
    public function announce(array $tasks): void
    {
        if (!$this->channel->reports()) {
            return;
        }
        $names = [];
        $room = self::ROOM;
        foreach ($tasks as $task) {
            $task->index = $this->announced++;
            $name = self::json($task->name);
            $room -= strlen($name) + 1;
            if ($room < 0) {
                $this->writeNames($names);
                $names = [];
                $room = self::ROOM - strlen($name) - 1;
            }
            $names[] = $name;
        }
        if ($names !== []) {
            $this->writeNames($names);
        }
    }

    public function start(Task $task): void
    {
        $this->report($task, 'start');
        $this->channel->flush();
    }

    public function done(Task $task, float $ms): void
    {
        $this->report($task, 'done', ['ms' => $ms]);
    }

    /**
     * @param string $error what Failure made of it
     */
    public function fail(Task $task, float $ms, string $error): void
    {
        $this->report($task, 'fail', ['ms' => $ms, 'error' => $error]);
        ErrorLog::write("deferred {$task->name} failed: $error");
    }

    public function skip(Task $task, string $why): void
    {
        $this->report($task, 'skip', ['why' => $why]);
    }

    public function end(): void
    {
        if ($this->begun) {
            $this->channel->write("{\"event\":\"end\"}\n");
        }
        $this->channel->flush();
    }

    /**
     * @param list<string> $names in JSON
     */
    private function writeNames(array $names): void
    {
        $head = $this->begun ? '"event":"add"' : '"event":"begin","pid":' . $this->pid;
        $this->channel->write('{' . $head . ',"tasks":[' . implode(',', $names) . "]}\n");
        $this->begun = true;
    }

    /**
     * @param array<string, float|string> $details
     */
    private function report(Task $task, string $event, array $details = []): void
    {
        // A task without a number was announced to nobody.
        if ($task->index !== null) {
            $this->channel->write(self::json(['event' => $event, 'task' => $task->index] + $details) . "\n");
        }
    }

    private static function json(mixed $value): string
    {
        return json_encode(
            $value,
            JSON_THROW_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE
        );
    }
}
