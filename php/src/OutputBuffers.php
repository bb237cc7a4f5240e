<?php

declare(strict_types=1);

namespace Deferd;

/**
 * PHP's stack of output buffers, the zlib.output_compression and output_buffering ones included.
 *
 * An output callback may throw, and a buffer may have been started so that it cannot be removed: both stop
 * neither the response nor the deferred work. PHP raises a notice when such a buffer is to be ended, which an
 * application's error handler may turn into an exception; so its flags are looked at first.
 *
 * @internal
 */
final class OutputBuffers
{
    /**
     * Ends all buffers and passes on what they hold.
     *
     * @return bool false if one cannot be removed
     */
    public static function end(): bool
    {
        return self::endAbove(0, ob_end_flush(...));
    }

    /**
     * Ends the buffers above the given level and drops what they hold.
     */
    public static function dropAbove(int $level): void
    {
        self::endAbove($level, ob_end_clean(...));
    }

    /**
     * Passes on what the topmost buffer holds, if it lets us.
     */
    public static function flush(): void
    {
        if (self::topAllows(PHP_OUTPUT_HANDLER_FLUSHABLE)) {
            Attempt::to('flush an output buffer', ob_flush(...));
        }
    }

    /**
     * @param \Closure(): bool $end
     */
    private static function endAbove(int $level, \Closure $end): bool
    {
        do {
            $now = ob_get_level();
            if ($now <= $level || !self::topAllows(PHP_OUTPUT_HANDLER_REMOVABLE)) {
                break;
            }
            Attempt::to('end an output buffer', $end);
        } while (ob_get_level() < $now);

        return ob_get_level() <= $level;
    }

    private static function topAllows(int $flag): bool
    {
        /** @var array{flags?: int} $top */
        $top = ob_get_status();

        return (($top['flags'] ?? 0) & $flag) !== 0;
    }
}
