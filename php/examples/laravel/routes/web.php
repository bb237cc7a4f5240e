<?php

use App\Http\Controllers\OwnController;
use App\Http\Controllers\PageController;
use App\Http\Middleware\CountVisit;
use Illuminate\Support\Facades\Route;

Route::controller(PageController::class)->group(function (): void {
    Route::get('/get', 'page');
    Route::post('/post', 'posted');
    Route::get('/no-content', 'noContent');
    Route::get('/redirect', 'redirect');
    Route::get('/stream', 'stream');
    Route::get('/compressed', 'long');
    Route::get('/error', 'serverError');
    Route::get('/exit', 'exit');
    Route::get('/plain', 'plain');
    Route::get('/session', 'session');
    Route::get('/throws', 'throws');
});

// Laravel's own ways to work after the response: deferd sees each of them by its name.
Route::controller(OwnController::class)->middleware(CountVisit::class)->group(function (): void {
    Route::get('/own', 'page');
    Route::get('/own/error', 'serverError');
    Route::get('/own/throws', 'throws');
});
