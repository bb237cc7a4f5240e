<?php

declare(strict_types=1);

namespace Deferd;

/**
 * How far this request's response is.
 *
 * @internal
 */
enum ResponseState
{
    /** Still open; on a SAPI that cannot end a response early it stays so. */
    case Open;

    /** Ended by the marker: what follows are reports to deferd. */
    case Marked;

    /** Ended by PHP's own function: what follows reaches nobody. */
    case Closed;
}
