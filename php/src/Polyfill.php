<?php

declare(strict_types=1);

namespace Deferd;

use Illuminate\Container\Container;
use Illuminate\Foundation\Application;
use Symfony\Component\HttpKernel\KernelInterface;

/**
 * What the fastcgi_finish_request() of polyfill.php does: ends the response, and has what a framework of the
 * application does afterwards reported by name. Nothing here loads a class of the application's.
 *
 * @internal
 */
final class Polyfill
{
    public static function finish(): bool
    {
        $watched = self::watchLaravel() || self::watchSymfony();

        return FinishRequest::finish(restIsTask: !$watched);
    }

    private static function watchLaravel(): bool
    {
        $application = class_exists(Application::class, false) ? Container::getInstance() : null;
        if (!$application instanceof Application) {
            return false;
        }
        Attempt::to('watch Laravel', static fn () => Laravel\AfterResponse::watch($application));

        return true;
    }

    private static function watchSymfony(): bool
    {
        if (!interface_exists(KernelInterface::class, false)) {
            return false;
        }

        return Attempt::to('watch Symfony', Symfony\AfterResponse::watchKernel(...)) === true;
    }
}
