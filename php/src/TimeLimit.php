<?php

declare(strict_types=1);

namespace Deferd;

/**
 * How long a callback may take: PHP's own time limit while it runs, and a deadline on the wall clock.
 *
 * @internal
 */
final class TimeLimit
{
    /** PHP takes it as an int of C. */
    private const MOST = 0x7FFFFFFF;

    private ?float $deadline = null;

    /** PHP's own limit, to be set again; null while ours is not. */
    private ?int $before = null;

    /**
     * @param float $seconds 0 is no limit
     */
    public function __construct(private readonly float $seconds)
    {
    }

    public function begin(): void
    {
        $this->deadline = $this->seconds > 0 ? self::now() + $this->seconds : null;
        $this->before = (int) ini_get('max_execution_time');
        self::set((int) min(ceil($this->seconds), self::MOST));
    }

    public function passed(): bool
    {
        return $this->deadline !== null && self::now() >= $this->deadline;
    }

    /**
     * Sets back PHP's own. It counts from zero then.
     */
    public function lift(): void
    {
        if ($this->before !== null) {
            self::set($this->before);
            $this->before = null;
        }
    }

    private static function set(int $seconds): void
    {
        if (function_exists('set_time_limit')) {
            set_time_limit($seconds);
        }
    }

    private static function now(): float
    {
        return hrtime(true) / 1e9;
    }
}
