<?php

namespace App\Http\Controllers;

use App\Services\Step;
use Illuminate\Http\Request;
use Illuminate\Http\Response;
use Illuminate\Support\Facades\Redirect;
use RuntimeException;
use Symfony\Component\HttpFoundation\RedirectResponse;
use Symfony\Component\HttpFoundation\StreamedResponse;

use function Illuminate\Support\defer;

/**
 * Every kind of response, each with two slow steps that its client does not wait for.
 */
class PageController extends Controller
{
    public function page(Request $request): Response
    {
        $this->deferSteps();

        return response("a page\n")->header('Content-Type', 'text/plain');
    }

    public function posted(Request $request): Response
    {
        $this->deferSteps();

        return response("{$request->input('text')}\n", 201)->header('Content-Type', 'text/plain');
    }

    public function noContent(): Response
    {
        $this->deferSteps();

        return response()->noContent();
    }

    public function redirect(): RedirectResponse
    {
        $this->deferSteps();

        return Redirect::to('/get');
    }

    public function stream(): StreamedResponse
    {
        $this->deferSteps();

        return response()->stream(function (): void {
            foreach (range(1, 5) as $part) {
                echo "part $part\n";
                flush();
            }
        }, 200, ['Content-Type' => 'text/plain']);
    }

    /** Enough text for a web server to compress it. */
    public function long(): Response
    {
        $this->deferSteps();

        return response(str_repeat("a line of text, compressed well\n", 1000))->header('Content-Type', 'text/plain');
    }

    public function serverError(): never
    {
        $this->deferSteps();
        abort(500);
    }

    public function exit(): never
    {
        $this->deferSteps();
        header('Content-Type: text/plain');
        echo "left early\n";
        exit;
    }

    public function plain(): Response
    {
        return response("nothing deferred\n")->header('Content-Type', 'text/plain');
    }

    /** What the session holds is there in the visitor's next request, and that one waits for nothing. */
    public function session(Request $request): Response
    {
        $visits = $request->session()->increment('visits');
        $this->deferSteps();

        return response("$visits\n")->header('Content-Type', 'text/plain');
    }

    public function throws(): Response
    {
        defer(fn () => Step::take('first'), 'first');
        defer(fn () => throw new RuntimeException('the mail server is away'), 'failing');
        defer(fn () => Step::take('second'), 'second');

        return response("one fails\n")->header('Content-Type', 'text/plain');
    }

    private function deferSteps(): void
    {
        defer(fn () => Step::take('first'), 'first');
        defer(fn () => Step::take('second'), 'second');
    }
}
