<?php

declare(strict_types=1);

namespace App\Controller;

use App\Service\Chores;
use Deferd\Defer;
use Symfony\Component\HttpFoundation\BinaryFileResponse;
use Symfony\Component\HttpFoundation\JsonResponse;
use Symfony\Component\HttpFoundation\RedirectResponse;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpFoundation\StreamedResponse;
use Symfony\Component\HttpKernel\Attribute\AsController;
use Symfony\Component\HttpKernel\Attribute\MapQueryParameter;
use Symfony\Component\Routing\Attribute\Route;

/**
 * Every kind of response, with two chores that are done when the client has it.
 */
#[AsController]
final class DemoController
{
    public function __construct(private readonly Chores $chores, private readonly Defer $defer)
    {
    }

    #[Route('/get', methods: ['GET'])]
    public function get(#[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);

        return self::text("got\n");
    }

    #[Route('/post', methods: ['POST'])]
    public function post(Request $request, #[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);

        return new JsonResponse(['posted' => $request->request->all()]);
    }

    #[Route('/no-content', methods: ['GET'])]
    public function noContent(#[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);

        return new Response(status: 204);
    }

    #[Route('/redirect', methods: ['GET'])]
    public function redirect(#[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);

        return new RedirectResponse('/get');
    }

    #[Route('/stream', methods: ['GET'])]
    public function stream(#[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);

        return new StreamedResponse(static function (): void {
            for ($line = 1; $line <= 5; $line++) {
                echo "line $line\n";
                flush();
            }
        }, headers: ['Content-Type' => 'text/plain']);
    }

    #[Route('/file', methods: ['GET'])]
    public function file(#[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);

        return new BinaryFileResponse(__FILE__, headers: ['Content-Type' => 'text/plain']);
    }

    #[Route('/compressed', methods: ['GET'])]
    public function compressed(#[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);

        return self::text(str_repeat("to be compressed\n", 4000));
    }

    #[Route('/error', methods: ['GET'])]
    public function error(#[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);

        throw new \RuntimeException('this controller has failed');
    }

    #[Route('/exit', methods: ['GET'])]
    public function leave(#[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);
        header('Content-Type: text/plain');
        exit("left\n");
    }

    #[Route('/plain', methods: ['GET'])]
    public function plain(): Response
    {
        return self::text("nothing deferred\n");
    }

    #[Route('/session', methods: ['GET'])]
    public function session(Request $request, #[MapQueryParameter] int $ms = 100): Response
    {
        $this->chores->defer($ms);
        $session = $request->getSession();
        $before = $session->get('count', 0);
        $count = (is_int($before) ? $before : 0) + 1;
        $session->set('count', $count);

        return self::text("$count\n");
    }

    #[Route('/throws', methods: ['GET'])]
    public function throws(#[MapQueryParameter] int $ms = 100): Response
    {
        $this->defer->defer(fn () => throw new \RuntimeException('the mail server is away'), 'mail');
        $this->chores->defer($ms);

        return self::text("got\n");
    }

    private static function text(string $text): Response
    {
        return new Response($text, headers: ['Content-Type' => 'text/plain']);
    }
}
