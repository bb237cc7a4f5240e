<?php

declare(strict_types=1);

namespace Deferd;

/**
 * One deferred callback, its name, and its number in the reports.
 *
 * @internal
 */
final class Task
{
    /** JSON makes at most six bytes out of one (\u0001), so a report's line of 8192 bytes holds a name. */
    private const NAME = 200;

    public readonly string $name;

    /** Its number in the reports to deferd; null until it was announced there. */
    public ?int $index = null;

    /** @var callable|null null once it was called */
    private $callback;

    public function __construct(callable $callback, ?string $name = null)
    {
        $this->callback = $callback;
        $this->name = Text::clip($name === null || $name === '' ? TaskName::of($callback) : $name, self::NAME);
    }

    /**
     * Calls the callback; a second call does nothing. What only the callback kept alive is freed before
     * this returns, so that its destructors count as the callback's work.
     *
     * @throws \Throwable what the callback throws
     */
    public function run(): void
    {
        $callback = $this->callback;
        $this->callback = null;
        if ($callback !== null) {
            $callback();
        }
    }
}
