<?php

declare(strict_types=1);

namespace Deferd;

/**
 * What fastcgi_finish_request() is behind deferd.
 */
final class FinishRequest
{
    /**
     * Ends the response, as PHP's fastcgi_finish_request() does: sends what the output buffers hold and lets the
     * client go; the session stays open. Behind deferd the deferred phase begins, and lasts until the end of the
     * request. Watched callbacks (Watch) and those of every Defer belong to it. If there are none by now, the rest
     * of the program is a task of its own, named after the function that called this, or the file and line.
     *
     * @param bool $restIsTask false where the rest is watched as it goes (the bridges to frameworks do): then it is
     *                         a task only if it fails
     *
     * @return bool true if the client has the complete response by this call; false if it had it already, or where
     *              that cannot be: then what can be sent is sent
     */
    public static function finish(bool $restIsTask = true): bool
    {
        return Phase::current()->finishRequest($restIsTask);
    }
}
