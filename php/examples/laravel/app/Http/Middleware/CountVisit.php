<?php

namespace App\Http\Middleware;

use App\Services\Step;
use Closure;
use Illuminate\Http\Request;
use Symfony\Component\HttpFoundation\Response;

/**
 * A terminable middleware: Laravel calls terminate() when the response was sent.
 */
class CountVisit
{
    public function handle(Request $request, Closure $next): Response
    {
        return $next($request);
    }

    public function terminate(Request $request, Response $response): void
    {
        Step::take('visit');
    }
}
