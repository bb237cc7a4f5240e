<?php

/**
 * Routes that the tests add to the Laravel application that has the package.
 */

declare(strict_types=1);

use App\Services\Step;
use Deferd\Defer;
use Illuminate\Support\Facades\Route;

Route::get('/more/ways', function (Defer $typed) {
    app('defer')->defer(fn () => null, 'app');
    app()['defer']->defer(fn () => null, 'array');
    \Defer::defer(fn () => null, 'facade');
    $typed->defer(fn () => null, 'typed');

    return app('defer') === $typed && \Defer::getFacadeRoot() === $typed ? 'same' : 'others';
});

Route::get('/more/error', function () {
    config(['deferd.skip_on_error' => true]);
    app('defer')->defer(fn () => Step::take('first'), 'first');
    app('defer')->defer(fn () => Step::take('second'), 'second')->always();
    abort(500);
});
