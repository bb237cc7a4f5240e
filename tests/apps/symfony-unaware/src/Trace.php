<?php

declare(strict_types=1);

namespace App;

/**
 * What happened, in which worker: lines in the file that DEMO_LOG names.
 */
final class Trace
{
    public function add(string $what): void
    {
        $log = getenv('DEMO_LOG');
        if (is_string($log) && $log !== '') {
            file_put_contents($log, getmypid() . " $what\n", FILE_APPEND | LOCK_EX);
        }
    }
}
