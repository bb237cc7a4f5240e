<?php

namespace App\Services;

/**
 * Stands in for the slow part of an application. A step takes its time, and leaves a line in the file that
 * DEMO_LOG names (an environment variable or a FastCGI param).
 */
class Step
{
    public static function take(string $name): void
    {
        usleep(1000 * request()->integer('ms', 100));
        $log = getenv('DEMO_LOG');
        if (is_string($log) && $log !== '') {
            file_put_contents($log, getmypid() . " $name\n", FILE_APPEND | LOCK_EX);
        }
    }
}
