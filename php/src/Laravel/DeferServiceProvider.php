<?php

declare(strict_types=1);

namespace Deferd\Laravel;

use Deferd\Defer;
use Illuminate\Console\Events\CommandFinished;
use Illuminate\Contracts\Config\Repository as Config;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Events\Dispatcher;
use Illuminate\Contracts\Foundation\Application;
use Illuminate\Queue\Events\JobAttempted;
use Illuminate\Support\ServiceProvider;

/**
 * Brings Defer into Laravel, which finds this provider by itself: app('defer'), the facade, or a parameter of type
 * Deferd\Defer. Callbacks run when Laravel terminates, each request having a Defer of its own; what they throw goes
 * to Laravel's report(). With 'skip_on_error' => true in config/deferd.php an error response keeps back those that are
 * not always() to be run.
 */
final class DeferServiceProvider extends ServiceProvider
{
    public function register(): void
    {
        require_once __DIR__ . '/../finish_request.php';
        $this->app->scoped(Defer::class, static fn (Application $app): Defer => new Defer(
            onFailure: static fn (\Throwable $error) => $app->make(ExceptionHandler::class)->report($error),
            skipOnError: $app->make(Config::class)->get('deferd.skip_on_error') === true,
        ));
        $this->app->alias(Defer::class, 'defer');
    }

    public function boot(): void
    {
        AfterResponse::watch($this->app);
        $this->app->terminating(self::run(...));
        $this->runWhereNothingTerminates($this->app->make(Dispatcher::class));
    }

    /**
     * Runs what was deferred in a queue's job when the job is over, and in a command when that is: the events at which
     * Laravel calls what its own defer() was given.
     */
    private function runWhereNothingTerminates(Dispatcher $events): void
    {
        $app = $this->app;
        $events->listen(CommandFinished::class, static function () use ($app): void {
            if ($app->runningInConsole()) {
                self::run($app);
            }
        });
        $events->listen(JobAttempted::class, static function (JobAttempted $event) use ($app): void {
            // These run in the middle of a request.
            if (!in_array($event->connectionName, ['sync', 'deferred'], true)) {
                self::run($app);
            }
        });
    }

    private static function run(Application $app): void
    {
        if ($app->resolved(Defer::class)) {
            $app->make(Defer::class)->run();
        }
    }
}
