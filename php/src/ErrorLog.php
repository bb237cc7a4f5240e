<?php

declare(strict_types=1);

namespace Deferd;

/**
 * PHP's error log.
 *
 * @internal
 */
final class ErrorLog
{
    /**
     * Writes one line. An error's text may hold anything, so control characters become spaces.
     */
    public static function write(string $message): void
    {
        if (function_exists('error_log')) {
            error_log('deferd: ' . preg_replace('/[\x00-\x1F\x7F]+/', ' ', $message));
        }
    }
}
