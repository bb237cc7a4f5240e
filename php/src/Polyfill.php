<?php

declare(strict_types=1);

namespace Deferd;

use Illuminate\Container\Container;
use Illuminate\Foundation\Application;
use Symfony\Component\HttpKernel\KernelInterface;

/**
 * What the fastcgi_finish_request() of polyfill.php does: ends the response, and has what Laravel or Symfony does
 * afterwards reported by name. Loads no class of the application's.
 *
 * @internal
 */
final class Polyfill
{
    public static function finish(): bool
    {
        $watched = self::watchLaravel() || self::watchSymfony();

        return FinishRequest::finish(restIsTask: !$watched || !self::isCalledByFramework());
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
        return interface_exists(KernelInterface::class, false) && Symfony\AfterResponse::watchKernel();
    }

    /**
     * What follows Response::send(), Laravel's too, or symfony/runtime is all watched. What follows a call of the
     * application's own, in a controller for example, is not.
     */
    private static function isCalledByFramework(): bool
    {
        // This function, finish(), fastcgi_finish_request(), and who called that.
        $caller = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, 4)[3] ?? [];

        return str_starts_with($caller['class'] ?? '', 'Symfony\\Component\\');
    }
}
