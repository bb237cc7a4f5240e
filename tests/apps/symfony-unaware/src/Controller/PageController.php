<?php

declare(strict_types=1);

namespace App\Controller;

use App\Outbox;
use App\Trace;
use Symfony\Component\EventDispatcher\EventDispatcherInterface;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpKernel\Attribute\AsController;
use Symfony\Component\HttpKernel\KernelEvents;
use Symfony\Component\Routing\Attribute\Route;

#[AsController]
final class PageController
{
    #[Route('/get', methods: ['GET'])]
    #[Route('/post', methods: ['POST'])]
    public function page(Request $request, Outbox $outbox, EventDispatcherInterface $dispatcher, Trace $trace): Response
    {
        $outbox->add('first');
        $outbox->add('second');
        if ($request->query->has('closure')) {
            $dispatcher->addListener(KernelEvents::TERMINATE, static fn () => $trace->add('closure called'), 5);
        }

        $response = new Response("answered\n", headers: ['Content-Type' => 'text/plain', 'X-Pid' => getmypid()]);

        return $request->query->has('cached') ? $response->setPublic()->setMaxAge(60) : $response;
    }
}
