<?php

declare(strict_types=1);

namespace Deferd;

/**
 * What happens to the tasks, told to deferd in lines of JSON (docs/protocol.md).
 *
 * @internal
 */
final class Journal
{
    /** For names in one line: a line has at most 8192 bytes, newline included (docs/protocol.md). */
    private const ROOM = 8192 - 64;

    /** Those who watch need no more. */
    private const PROGRESS_NS = 100_000_000;

    /** deferd keeps less of it. */
    private const TEXT = 1000;

    private bool $begun = false;
    private bool $ended = true;
    private int $announced = 0;

    /** The last progress of the running task, if it was not written yet. */
    private string $progress = '';
    private int $progressAt = 0;

    public function __construct(private readonly Channel $channel, private readonly int $pid)
    {
    }

    public function hasBegun(): bool
    {
        return $this->begun;
    }

    /**
     * Begins, with no task too.
     *
     * @param list<Task> $tasks
     */
    public function begin(array $tasks): void
    {
        $this->announce($tasks);
        if (!$this->begun) {
            $this->writeNames([]);
        }
    }

    /**
     * Numbers the tasks that have no number and names them to deferd, in as many lines as it takes.
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
            if ($task->index !== null) {
                continue;
            }
            $task->index = $this->announced++;
            $name = self::json($task->name());
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
        $this->progress = '';
        $this->progressAt = 0;
    }

    /**
     * @return bool whether it is time to write it; in a forked child it never is
     */
    public function progress(Task $task, float $ratio, string $text): bool
    {
        if (!$this->begun) {
            return false;
        }
        $this->progress = self::json([
            'event' => 'progress',
            'task' => $task->index,
            // NAN is 0.
            'ratio' => $ratio > 0 ? round(min($ratio, 1), 4) : 0,
            'text' => Text::clip($text, self::TEXT),
        ]) . "\n";
        if (hrtime(true) - $this->progressAt < self::PROGRESS_NS) {
            return false;
        }
        $this->progressAt = hrtime(true);
        $this->writeProgress();

        return true;
    }

    public function done(Task $task, float $ms): void
    {
        $this->writeProgress();
        $this->report($task, 'done', ['ms' => $ms]);
    }

    /**
     * @param string $error what Failure made of it
     */
    public function fail(Task $task, float $ms, string $error): void
    {
        $this->writeProgress();
        $this->report($task, 'fail', ['ms' => $ms, 'error' => $error]);
    }

    public function skip(Task $task, string $why): void
    {
        $this->report($task, 'skip', ['why' => $why]);
    }

    public function end(): void
    {
        if (!$this->ended) {
            $this->channel->write("{\"event\":\"end\"}\n");
            $this->ended = true;
        }
    }

    private function writeProgress(): void
    {
        $this->channel->write($this->progress);
        $this->progress = '';
    }

    /**
     * @param list<string> $names in JSON
     */
    private function writeNames(array $names): void
    {
        $head = $this->begun ? '"event":"add"' : '"event":"begin","pid":' . $this->pid;
        $this->channel->write('{' . $head . ',"tasks":[' . implode(',', $names) . "]}\n");
        $this->begun = true;
        $this->ended = false;
    }

    /**
     * @param array<string, float|string> $details
     */
    private function report(Task $task, string $event, array $details = []): void
    {
        // A task without a number was announced to nobody; a forked child has begun nothing.
        if ($task->index !== null && $this->begun) {
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
