<?php

declare(strict_types=1);

namespace Deferd;

/**
 * A job whose result is of no further use, unless a subclass says otherwise.
 */
abstract class Job implements JobInterface
{
    public function callback(mixed $result): void
    {
    }
}
