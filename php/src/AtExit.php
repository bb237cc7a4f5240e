<?php

declare(strict_types=1);

namespace Deferd;

/**
 * Calls something once at the end of the request, behind everything the application does there.
 *
 * The shutdown function registers the real one, which so comes after all those the application registered: what
 * they print still belongs to the response. An uncaught exception or an exit in one of them makes PHP skip the
 * later ones, ours too; then the destructor calls it. (Not after a fatal error, which also keeps PHP from calling
 * destructors.)
 *
 * @internal
 */
final class AtExit
{
    /** @var (\Closure(): void)|null null once it was called */
    private ?\Closure $action;

    /**
     * @param \Closure(): void $action
     */
    public function __construct(\Closure $action)
    {
        $this->action = $action;
        register_shutdown_function(function (): void {
            register_shutdown_function(fn () => $this->call());
        });
    }

    public function __destruct()
    {
        $this->call();
    }

    private function call(): void
    {
        $action = $this->action;
        $this->action = null;
        if ($action !== null) {
            $action();
        }
    }
}
