<?php

declare(strict_types=1);

namespace Deferd;

/**
 * How far a task is.
 *
 * @internal
 */
enum TaskState
{
    /** Deferred, and may still be cancelled. */
    case Waiting;

    case Running;

    /** Done or failed. */
    case Over;

    /** Cancelled, replaced or skipped. */
    case Dropped;
}
