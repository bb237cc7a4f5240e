<?php

declare(strict_types=1);

namespace Deferd;

/**
 * Drops what a callback prints, or the main code when deferd has the end of the response, warnings that
 * display_errors prints included, and lets our reports through.
 *
 * The buffer is an ordinary, removable one: code that says `while (ob_get_level()) ob_end_clean();` would never
 * come back from one that cannot be removed. It drops whatever it is given, so that ob_end_flush() passes nothing
 * on either, and with a chunk size of 1 it holds nothing. Code that ends a buffer it did not start may still print
 * past it; end() tells.
 *
 * After a fatal error in a callback PHP may call nothing of ours but this buffer's function, when it ends all
 * buffers: then it asks for last words, and PHP writes those.
 *
 * @internal
 */
final class Silence
{
    private int $level = 0;
    private bool $active = false;
    private bool $broken = false;
    private string $passing = '';

    /**
     * @param \Closure(): string $lastWords called when somebody else ends the buffer; it may print nothing
     */
    public function __construct(private readonly \Closure $lastWords)
    {
    }

    public function begin(): void
    {
        $this->level = ob_get_level();
        $this->active = true;
        $this->broken = false;
        ob_start(fn (string $output, int $phase): string => $this->handle($phase), 1);
    }

    /**
     * Whether pass() can write: it is not over, and the callback has no buffers of its own in the way.
     */
    public function holds(): bool
    {
        return $this->active && !$this->broken && ob_get_level() === $this->level + 1;
    }

    /**
     * Writes past the silence, while it holds.
     */
    public function pass(string $bytes): void
    {
        $this->passing = $bytes;
        echo ' ';
        flush();
    }

    /**
     * Ends it, together with the buffers that the callback left open.
     *
     * @return bool whether it held: false if the callback ended it and may have printed past it
     */
    public function end(): bool
    {
        $held = !$this->broken;
        if ($this->active) {
            $this->active = false;
            OutputBuffers::dropAbove($this->level);
        }

        return $held;
    }

    private function handle(int $phase): string
    {
        if (($phase & PHP_OUTPUT_HANDLER_FINAL) !== 0) {
            $this->broken = true;

            return $this->active ? ($this->lastWords)() : '';
        }
        $bytes = $this->passing;
        $this->passing = '';

        return $bytes;
    }
}
