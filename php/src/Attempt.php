<?php

declare(strict_types=1);

namespace Deferd;

/**
 * A call into code that is not ours and must not stop us: output callbacks, session handlers.
 *
 * @internal
 */
final class Attempt
{
    /**
     * @param string            $what      for the error log, when it throws
     * @param \Closure(): mixed $operation
     *
     * @return mixed what it returned; null if it threw
     */
    public static function to(string $what, \Closure $operation): mixed
    {
        try {
            return $operation();
        } catch (\Throwable $error) {
            ErrorLog::write("could not $what: " . Failure::of($error));

            return null;
        }
    }
}
