<?php

declare(strict_types=1);

use App\Chores;
use App\SessionMiddleware;
use Psr\Http\Message\ResponseInterface as Response;
use Psr\Http\Message\ServerRequestInterface as Request;
use Slim\App;
use Slim\Psr7\NonBufferedBody;

return static function (App $app): void {
    $chores = static fn (Request $request): Chores => new Chores(
        $request->getAttribute('defer'),
        (int) ($request->getQueryParams()['ms'] ?? 100)
    );
    $text = static function (Response $response, string $text): Response {
        $response->getBody()->write($text);

        return $response->withHeader('Content-Type', 'text/plain');
    };

    $app->get('/get', function (Request $request, Response $response) use ($chores, $text) {
        $chores($request)->defer();

        return $text($response, "got\n");
    });

    $app->post('/post', function (Request $request, Response $response) use ($chores) {
        $chores($request)->defer();
        $response->getBody()->write(json_encode(['posted' => $request->getParsedBody()], JSON_THROW_ON_ERROR));

        return $response->withHeader('Content-Type', 'application/json');
    });

    $app->get('/no-content', function (Request $request, Response $response) use ($chores) {
        $chores($request)->defer();

        return $response->withStatus(204);
    });

    $app->get('/redirect', function (Request $request, Response $response) use ($chores) {
        $chores($request)->defer();

        return $response->withStatus(302)->withHeader('Location', '/get');
    });

    // Slim sends the headers of such a response no more: the first line has taken them along.
    $app->get('/stream', function (Request $request, Response $response) use ($chores) {
        $chores($request)->defer();
        header('Content-Type: text/plain');
        $response = $response->withBody(new NonBufferedBody());
        for ($line = 1; $line <= 5; $line++) {
            $response->getBody()->write("line $line\n");
        }

        return $response;
    });

    $app->get('/compressed', function (Request $request, Response $response) use ($chores, $text) {
        $chores($request)->defer();

        return $text($response, str_repeat("to be compressed\n", 4000));
    });

    $app->get('/error', function (Request $request) use ($chores) {
        $chores($request)->defer();
        throw new RuntimeException('this controller has failed');
    });

    $app->get('/exit', function (Request $request) use ($chores) {
        $chores($request)->defer();
        header('Content-Type: text/plain');
        exit("left\n");
    });

    $app->get('/plain', fn (Request $request, Response $response) => $text($response, "nothing deferred\n"));

    // The session is open until the response ends; the chores do not keep the next request out of it.
    $app->get('/session', function (Request $request, Response $response) use ($chores, $text) {
        $chores($request)->defer();
        $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;

        return $text($response, "{$_SESSION['count']}\n");
    })->add(SessionMiddleware::class);

    $app->get('/throws', function (Request $request, Response $response) use ($chores, $text) {
        $request->getAttribute('defer')->defer(
            fn () => throw new RuntimeException('the mail server is away'),
            'mail'
        );
        $chores($request)->defer();

        return $text($response, "got\n");
    });
};
