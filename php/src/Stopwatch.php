<?php

declare(strict_types=1);

namespace Deferd;

/**
 * How long something has taken, on the wall clock.
 *
 * @internal
 */
final class Stopwatch
{
    private readonly int|float $startedAt;

    public function __construct()
    {
        $this->startedAt = hrtime(true);
    }

    /**
     * In milliseconds, as reports have it.
     */
    public function ms(): float
    {
        return round((hrtime(true) - $this->startedAt) / 1e6, 3);
    }
}
