<?php

declare(strict_types=1);

namespace Deferd;

/**
 * Work in two steps, for defer(): the job, and then what is to become of its result.
 */
interface JobInterface
{
    /**
     * The work. When it throws, callback() is not called.
     */
    public function job(): mixed;

    /**
     * @param mixed $result what job() returned
     */
    public function callback(mixed $result): void;
}
