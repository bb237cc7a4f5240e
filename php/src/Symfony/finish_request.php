<?php

/**
 * symfony/runtime calls fastcgi_finish_request() by itself, in this namespace.
 */

declare(strict_types=1);

namespace Symfony\Component\Runtime\Runner\Symfony;

use Deferd\FinishRequest;

function fastcgi_finish_request(): bool
{
    return FinishRequest::finish(false);
}
