<?php

declare(strict_types=1);

namespace Deferd\Laravel;

/**
 * Stands in for a terminable middleware while the kernel terminates.
 *
 * @internal
 */
final class StandIn
{
    /**
     * @param \Closure(): void $before    called first
     * @param \Closure         $terminate given what the kernel gives terminate()
     */
    public function __construct(private readonly \Closure $before, private readonly \Closure $terminate)
    {
    }

    public function terminate(mixed ...$arguments): void
    {
        ($this->before)();
        ($this->terminate)(...$arguments);
    }
}
