<?php

declare(strict_types=1);

namespace Deferd;

/**
 * Drops what a callback prints, warnings that display_errors prints included.
 *
 * The buffer is an ordinary, removable one: code that says `while (ob_get_level()) ob_end_clean();` would never
 * come back from one that cannot be removed. It drops whatever it is given, so that ob_end_flush() passes nothing
 * on either, and with a chunk size of 1 it holds nothing. A callback that ends a buffer it did not start may
 * still print past it; end() tells.
 *
 * @internal
 */
final class Silence
{
    private int $level = 0;
    private bool $broken = false;

    public function begin(): void
    {
        $this->level = ob_get_level();
        $this->broken = false;
        ob_start(function (string $output, int $phase): string {
            if (($phase & PHP_OUTPUT_HANDLER_FINAL) !== 0) {
                $this->broken = true;
            }

            return '';
        }, 1);
    }

    /**
     * Ends it, together with the buffers that the callback left open.
     *
     * @return bool whether it held: false if the callback ended it and may have printed past it
     */
    public function end(): bool
    {
        $held = !$this->broken;
        OutputBuffers::dropAbove($this->level);

        return $held;
    }
}
