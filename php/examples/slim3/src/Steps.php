<?php

declare(strict_types=1);

namespace App;

/**
 * Stands in for an application's work: a step takes its time, and leaves a line in the file that DEMO_LOG names
 * (an environment variable or a FastCGI param) and, if the client still waits, in the response's body.
 */
final class Steps
{
    private string $body = '';
    private readonly float $begun;

    public function __construct(private readonly string $route, private readonly string $key)
    {
        $this->begun = microtime(true);
    }

    /** What has to happen before the client can have its answer. */
    public function main(int $step): void
    {
        $this->take($step, 'main', 10_000);
    }

    /** What the client need not wait for: mail, thumbnails, an index. Without Defer it waits all the same. */
    public function slow(int $step, string $kind = 'deferred'): void
    {
        $this->take($step, $kind, $step === 2 ? 300_000 : 400_000);
    }

    public function __toString(): string
    {
        return $this->body;
    }

    private function take(int $step, string $kind, int $microseconds): void
    {
        $start = microtime(true);
        usleep($microseconds);
        $end = microtime(true);
        if ($kind === 'main') {
            $from = ($start - $this->begun) * 1e3;
            $to = ($end - $this->begun) * 1e3;
            $this->body .= sprintf("step %d from %6.1f ms to %6.1f ms\n", $step, $from, $to);
        }
        $log = getenv('DEMO_LOG');
        if (is_string($log) && $log !== '') {
            $line = json_encode([
                'route' => $this->route,
                'key' => $this->key,
                'step' => $step,
                'kind' => $kind,
                'start' => $start,
                'end' => $end,
                'pid' => getmypid(),
            ], JSON_THROW_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES);
            file_put_contents($log, $line . "\n", FILE_APPEND | LOCK_EX);
        }
    }
}
