<?php

namespace App\Http\Controllers;

use App\Jobs\SendReport;
use App\Services\Step;
use Illuminate\Http\Response;
use RuntimeException;

use function Illuminate\Support\defer;

/**
 * What Laravel has itself for work after the response.
 */
class OwnController extends Controller
{
    public function page(): Response
    {
        defer(fn () => Step::take('deferred'), 'reindex');
        SendReport::dispatchAfterResponse('ann');
        app()->terminating([$this, 'cleanUp']);

        return response("Laravel's own\n")->header('Content-Type', 'text/plain');
    }

    /** After an error Laravel calls only what was deferred with always(). */
    public function serverError(): never
    {
        defer(fn () => Step::take('deferred'), 'reindex');
        defer(fn () => Step::take('always'), 'alert')->always();
        abort(500);
    }

    /** Laravel reports what a deferred callback throws, and calls the next. */
    public function throws(): Response
    {
        defer(fn () => throw new RuntimeException('the index is away'), 'reindex');
        defer(fn () => Step::take('deferred'), 'alert');

        return response("one fails\n")->header('Content-Type', 'text/plain');
    }

    public function cleanUp(): void
    {
        Step::take('clean up');
    }
}
