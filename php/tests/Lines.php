<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Psr\Log\AbstractLogger;

/**
 * A logger that keeps what went wrong.
 */
final class Lines extends AbstractLogger
{
    /** @var list<string> */
    public array $lines = [];

    /**
     * @param mixed                $level
     * @param array<string, mixed> $context
     */
    public function log($level, string|\Stringable $message, array $context = []): void
    {
        $error = $context['exception'] ?? null;
        $this->lines[] = $error instanceof \Throwable ? $error->getMessage() : (string) $message;
    }
}
