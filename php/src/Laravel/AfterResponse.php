<?php

declare(strict_types=1);

namespace Deferd\Laravel;

use Deferd\Attempt;
use Deferd\Channel;
use Deferd\TaskName;
use Deferd\Watch;
use Illuminate\Contracts\Http\Kernel as KernelContract;
use Illuminate\Foundation\Application;
use Illuminate\Foundation\Events\Terminating;
use Illuminate\Foundation\Http\Kernel;
use Illuminate\Foundation\Http\Middleware\InvokeDeferredCallbacks;
use Illuminate\Routing\Route;
use Illuminate\Support\Defer\DeferredCallback;
use Illuminate\Support\Defer\DeferredCallbackCollection;
use Illuminate\Support\Str;

/**
 * Shows deferd, by name, what Laravel does after the response: terminable middleware, what was given to defer(),
 * dispatchAfterResponse() and terminating().
 *
 * The kernel dispatches Terminating first, so that is where all of it is known. Laravel goes on to call everything
 * itself, in its order, with its arguments and its ways with exceptions; only what it calls is watched. Without deferd
 * nothing is touched.
 */
final class AfterResponse
{
    private bool $begun = false;

    /** @var \SplObjectStorage<DeferredCallback, null> those that are watched */
    private \SplObjectStorage $deferred;

    /** How many middleware have got a stand-in. */
    private int $standIns = 0;

    private function __construct(private readonly Application $app)
    {
        $this->deferred = new \SplObjectStorage();
    }

    /**
     * Watches what this application does after its next response. May be called at any time before the kernel's
     * terminate(), and more than once.
     */
    public static function watch(Application $app): void
    {
        if ($app->bound(self::class)) {
            return;
        }
        $app->instance(self::class, $self = new self($app));
        $app->make('events')->listen(Terminating::class, static function () use ($self): void {
            // Whatever goes wrong with watching, Laravel's work goes on.
            Attempt::to('watch what Laravel does after the response', $self->begin(...));
        });
    }

    private function begin(): void
    {
        if (!$this->begun && Channel::current()->reports()) {
            $this->begun = true;
            $this->watchMiddleware();
            $this->watchTerminating(0);
        }
    }

    /**
     * Gives terminable middleware stand-ins in the kernel's and the route's lists. The kernel puts these together
     * before it calls the first, and at that moment they get back what they had.
     */
    private function watchMiddleware(): void
    {
        $kernel = $this->app->make(KernelContract::class);
        if (!$kernel instanceof Kernel) {
            return;
        }
        $global = $kernel->getGlobalMiddleware();
        $route = $this->app->make('request')->route();
        $route = $route instanceof Route ? $route : null;
        $computed = $route?->computedMiddleware;
        $restore = static function () use ($kernel, $global, $route, $computed): void {
            $kernel->setGlobalMiddleware($global);
            if ($route !== null) {
                $route->computedMiddleware = $computed;
            }
        };
        if ($route !== null) {
            $gathered = $this->app->make('router')->gatherRouteMiddleware($route);
            $route->computedMiddleware = $this->withStandIns($gathered, $restore);
        }
        $kernel->setGlobalMiddleware($this->withStandIns($global, $restore));
    }

    /**
     * @param array<mixed>     $middleware names, and closures
     * @param \Closure(): void $restore
     *
     * @return array<mixed>
     */
    private function withStandIns(array $middleware, \Closure $restore): array
    {
        foreach ($middleware as $key => $name) {
            $class = is_string($name) ? explode(':', $name, 2)[0] : '';
            if (class_exists($class) && method_exists($class, 'terminate')) {
                $middleware[$key] = 'deferd.middleware.' . $this->standIns++;
                $this->app->instance($middleware[$key], new StandIn($restore, $this->terminateOf($class)));
            }
        }

        return $middleware;
    }

    /**
     * What calls this middleware's terminate(). It is made no earlier than Laravel would make it.
     *
     * @param class-string $class
     */
    private function terminateOf(string $class): \Closure
    {
        $terminate = fn (mixed ...$arguments): mixed => $this->app->make($class)->terminate(...$arguments);
        if ($class !== InvokeDeferredCallbacks::class) {
            return Watch::callback($terminate, "$class::terminate");
        }
        $this->watchDeferred();

        return function (mixed ...$arguments) use ($terminate): void {
            // Middleware that were called earlier may have deferred more.
            $this->watchDeferred();
            $terminate(...$arguments);
        };
    }

    private function watchDeferred(): void
    {
        $all = $this->app->make(DeferredCallbackCollection::class);
        for ($i = 0, $count = count($all); $i < $count; $i++) {
            $deferred = $all[$i];
            if (!$this->deferred->contains($deferred)) {
                $this->deferred->attach($deferred);
                $deferred->callback = Watch::callback($deferred->callback, self::nameOfDeferred($deferred));
            }
        }
    }

    /**
     * Watches the terminating callbacks from this one on. Behind the last, one of our own looks whether meanwhile more
     * were registered, which Laravel calls too.
     */
    private function watchTerminating(int $from): void
    {
        $property = new \ReflectionProperty(Application::class, 'terminatingCallbacks');
        $callbacks = $property->getValue($this->app);
        for ($i = $from, $count = count($callbacks); $i < $count; $i++) {
            $callback = $callbacks[$i];
            $name = self::nameOfTerminating($callback);
            if ($name !== null) {
                $callbacks[$i] = Watch::callback(fn (): mixed => $this->app->call($callback), $name);
            }
        }
        if ($count > $from) {
            $callbacks[] = fn () => $this->watchTerminating($count + 1);
            $property->setValue($this->app, $callbacks);
        }
    }

    /**
     * The name it was given; one that was given none has a UUID from Laravel.
     */
    private static function nameOfDeferred(DeferredCallback $deferred): string
    {
        if ($deferred->name !== null && !Str::isUuid($deferred->name)) {
            return $deferred->name;
        }

        return self::nameOfJob($deferred->callback) ?? TaskName::of($deferred->callback);
    }

    /**
     * @param mixed $callback what Application::call() takes
     *
     * @return string|null null for Laravel's own housekeeping, and ours, which nobody waits for
     */
    private static function nameOfTerminating(mixed $callback): ?string
    {
        if ($callback instanceof \Closure && (self::isLaravels($callback) || self::isIn(__DIR__, $callback))) {
            return self::nameOfJob($callback);
        }

        // A string may also be a class, or 'Class@method', of which the container makes the object.
        return is_string($callback) ? $callback : TaskName::of($callback);
    }

    /**
     * The job that one of Laravel's closures is about, by the name that Laravel has for it in queues.
     */
    private static function nameOfJob(mixed $callback): ?string
    {
        if (!$callback instanceof \Closure || !self::isLaravels($callback)) {
            return null;
        }
        $used = (new \ReflectionFunction($callback))->getStaticVariables();
        // Of dispatchAfterResponse(), a batch's dispatchAfterResponse(), and the queue connection "deferred".
        $job = $used['command'] ?? $used['batch'] ?? $used['job'] ?? null;
        if (!is_object($job)) {
            return is_string($job) ? $job : null;
        }

        return method_exists($job, 'displayName') ? $job->displayName() : $job::class;
    }

    private static function isLaravels(\Closure $closure): bool
    {
        return self::isIn(dirname((string) (new \ReflectionClass(Application::class))->getFileName(), 2), $closure);
    }

    /**
     * By the file, for the class that a closure belongs to says little: a file with routes is included by a method of
     * Laravel's, and so its closures are of that class.
     */
    private static function isIn(string $directory, \Closure $closure): bool
    {
        return str_starts_with((string) (new \ReflectionFunction($closure))->getFileName(), "$directory/");
    }
}
