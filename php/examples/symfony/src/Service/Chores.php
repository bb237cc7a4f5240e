<?php

declare(strict_types=1);

namespace App\Service;

use Deferd\Defer;

/**
 * Stands in for what a client need not wait for, a mail and an index: two chores that take their time, and leave a
 * line, "PID NAME", in the file that DEMO_LOG names (an environment variable or a FastCGI param).
 */
final class Chores
{
    public function __construct(private readonly Defer $defer)
    {
    }

    public function defer(int $milliseconds): void
    {
        $this->defer->defer(fn () => $this->do('first', $milliseconds), 'first');
        $this->defer->defer(fn () => $this->do('second', $milliseconds), 'second');
    }

    private function do(string $name, int $milliseconds): void
    {
        usleep($milliseconds * 1000);
        $log = getenv('DEMO_LOG');
        if (is_string($log) && $log !== '') {
            file_put_contents($log, getmypid() . " $name\n", FILE_APPEND | LOCK_EX);
        }
    }
}
