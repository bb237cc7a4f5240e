<?php

declare(strict_types=1);

namespace Deferd;

/**
 * Notices an exit() in the code that is called while a local variable holds the guard: PHP then leaves the
 * function without running its finally blocks, but it does destroy its local variables.
 *
 * @internal
 */
final class ExitGuard
{
    /** @var (\Closure(): void)|null */
    private ?\Closure $onExit;

    /**
     * @param \Closure(): void $onExit
     */
    public function __construct(\Closure $onExit)
    {
        $this->onExit = $onExit;
    }

    public function disarm(): void
    {
        $this->onExit = null;
    }

    public function __destruct()
    {
        if ($this->onExit !== null) {
            ($this->onExit)();
        }
    }
}
