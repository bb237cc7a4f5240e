<?php

declare(strict_types=1);

namespace App;

use Deferd\Defer;

/**
 * Stands in for what a client need not wait for, a mail and an index: two chores that take their time, and leave a
 * line, "PID NAME", in the file that DEMO_LOG names (an environment variable or a FastCGI param).
 */
final class Chores
{
    public function __construct(private readonly Defer $defer, private readonly int $milliseconds)
    {
    }

    public function defer(): void
    {
        $this->defer->defer(fn () => $this->do('first'), 'first');
        $this->defer->defer(fn () => $this->do('second'), 'second');
    }

    private function do(string $name): void
    {
        usleep($this->milliseconds * 1000);
        $log = getenv('DEMO_LOG');
        if (is_string($log) && $log !== '') {
            file_put_contents($log, getmypid() . " $name\n", FILE_APPEND | LOCK_EX);
        }
    }
}
