<?php

declare(strict_types=1);

namespace Deferd\Laravel;

use Deferd\Attempt;
use Deferd\Channel;
use Deferd\Watch;
use Illuminate\Contracts\Container\Container;
use Illuminate\Contracts\Events\Dispatcher;
use Illuminate\Contracts\Http\Kernel as KernelContract;
use Illuminate\Foundation\Application;
use Illuminate\Foundation\Events\Terminating;
use Illuminate\Foundation\Http\Kernel;
use Illuminate\Foundation\Http\Middleware\InvokeDeferredCallbacks;
use Illuminate\Http\Request;
use Illuminate\Routing\Route;
use Illuminate\Routing\Router;
use Illuminate\Support\Defer\DeferredCallback;
use Illuminate\Support\Defer\DeferredCallbackCollection;

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

    /** @var \WeakMap<DeferredCallback, true> those that are watched */
    private \WeakMap $deferred;

    /** How many middleware have got a stand-in. */
    private int $standIns = 0;

    private function __construct(private readonly Application $app)
    {
        $this->deferred = new \WeakMap();
    }

    /**
     * Watches what this application does after its next response. May be called at any time before the kernel's
     * terminate(), and more than once. A container that is no Laravel application is left alone.
     */
    public static function watch(Container $app): void
    {
        if (!$app instanceof Application || $app->bound(self::class)) {
            return;
        }
        $app->instance(self::class, $self = new self($app));
        $app->make(Dispatcher::class)->listen(Terminating::class, static fn () => self::attempt($self->begin(...)));
    }

    /**
     * Whatever goes wrong with watching, Laravel's work goes on.
     *
     * @param \Closure(): void $watch
     */
    private static function attempt(\Closure $watch): void
    {
        Attempt::to('watch what Laravel does after the response', $watch);
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
        $route = $this->app->make(Request::class)->route();
        $route = $route instanceof Route ? $route : null;
        $computed = $route?->computedMiddleware;
        $restore = static function () use ($kernel, $global, $route, $computed): void {
            $kernel->setGlobalMiddleware($global);
            if ($route !== null) {
                $route->computedMiddleware = $computed;
            }
        };
        if ($route !== null) {
            $gathered = $this->app->make(Router::class)->gatherRouteMiddleware($route);
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
        $terminate = function (mixed ...$arguments) use ($class): void {
            $middleware = $this->app->make($class);
            if (method_exists($middleware, 'terminate')) {
                $middleware->terminate(...$arguments);
            }
        };
        if ($class !== InvokeDeferredCallbacks::class) {
            return Watch::callback($terminate, "$class::terminate");
        }
        $this->watchDeferred();

        return function (mixed ...$arguments) use ($terminate): void {
            // Middleware that were called earlier may have deferred more.
            self::attempt($this->watchDeferred(...));
            $terminate(...$arguments);
        };
    }

    private function watchDeferred(): void
    {
        $all = $this->app->make(DeferredCallbackCollection::class);
        for ($i = 0, $count = count($all); $i < $count; $i++) {
            /** @var DeferredCallback $deferred */
            $deferred = $all[$i];
            if (!isset($this->deferred[$deferred])) {
                $this->deferred[$deferred] = true;
                $deferred->callback = Watch::callback($deferred->callback, CallbackName::ofDeferred($deferred));
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
        /** @var list<callable|string> $callbacks */
        $callbacks = $property->getValue($this->app);
        for ($i = $from, $count = count($callbacks); $i < $count; $i++) {
            $callback = $callbacks[$i];
            $name = CallbackName::ofTerminating($callback);
            if ($name !== null) {
                $callbacks[$i] = Watch::callback(fn (): mixed => $this->app->call($callback), $name);
            }
        }
        if ($count > $from) {
            $callbacks[] = fn () => self::attempt(fn () => $this->watchTerminating($count + 1));
            $property->setValue($this->app, $callbacks);
        }
    }
}
