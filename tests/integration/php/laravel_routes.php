<?php

/**
 * Routes that the tests add to a Laravel application, with ways to work after the response that it does not use.
 */

declare(strict_types=1);

use App\Jobs\SendReport;
use App\Services\Step;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Route;

use function Illuminate\Support\defer;

final class Cleaner
{
    public function __construct(private readonly Request $request)
    {
    }

    public function sweep(): void
    {
        Step::take('sweep');
    }

    public static function dust(): void
    {
        Step::take('dust');
    }

    public function __invoke(): void
    {
        Step::take('invoked');
    }
}

final class LateMiddleware
{
    public function handle(Request $request, Closure $next, string $parameter): mixed
    {
        $request->attributes->set('parameter', $parameter);

        return $next($request);
    }

    public function terminate(Request $request): void
    {
        Step::take('middleware ' . $request->attributes->get('parameter'));
        defer(fn () => Step::take('late deferred'), 'late deferred');
    }
}

final class SharedMiddleware
{
    public ?object $response = null;

    public function handle(Request $request, Closure $next): mixed
    {
        return $this->response = $next($request);
    }

    public function terminate(Request $request, mixed $response): void
    {
        $same = $this->response === $response && app(self::class) === $this;
        Step::take($same ? 'same instance' : 'another instance');
        $kernel = app(Illuminate\Contracts\Http\Kernel::class);
        Step::take('sub-request ' . $kernel->handle(Request::create('/more/middleware'))->getStatusCode());
    }
}

app()->singleton(SharedMiddleware::class);

if (request()->is('nowhere')) {
    app()->terminating(fn () => Step::take('nobody there'));
}

Route::get('/more/kinds', function () {
    defer(fn () => Step::take('closure 1')); // closure 1
    SendReport::dispatch('bob')->onConnection('deferred');
    dispatch(fn () => Step::take('closure 2'))->afterResponse(); // closure 2
    app()->terminating('Cleaner@sweep');
    app()->terminating([Cleaner::class, 'dust']);
    app()->terminating(new Cleaner(request()));
    app()->terminating(function (Illuminate\Foundation\Application $app): void { // closure 3
        $app->terminating(fn () => Step::take('closure 4')); // closure 4
    });

    return 'many';
})->middleware(LateMiddleware::class . ':7');

Route::get('/more/itself', function () {
    echo "early\n";
    fastcgi_finish_request(); // itself
    Step::take('afterwards');

    return '';
});

Route::get('/more/throwing', function () {
    app()->terminating(fn () => throw new RuntimeException('this one throws'));
    app()->terminating(fn () => Step::take('never'));

    return 'soon';
});

Route::get('/more/middleware', fn () => 'mine')->middleware(SharedMiddleware::class);
