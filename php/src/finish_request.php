<?php

/**
 * Symfony's Response::send(), which Laravel has too, calls fastcgi_finish_request() without a leading backslash, in its
 * own namespace. So the function here is called in place of PHP's, and no php.ini has to be changed.
 */

declare(strict_types=1);

namespace Symfony\Component\HttpFoundation;

use Deferd\FinishRequest;

function fastcgi_finish_request(): bool
{
    return FinishRequest::finish(false);
}
