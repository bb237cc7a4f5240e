<?php

use Illuminate\Foundation\Application;
use Illuminate\Foundation\Configuration\Exceptions;
use Illuminate\Foundation\Configuration\Middleware;

return Application::configure(basePath: dirname(__DIR__))
    ->withRouting(
        web: __DIR__ . '/../routes/web.php',
        health: '/up',
    )
    ->withMiddleware(function (Middleware $middleware): void {
        // So that curl can post without having asked for a form first.
        $middleware->validateCsrfTokens(except: ['post']);
    })
    ->withExceptions(function (Exceptions $exceptions): void {
        //
    })->create();
