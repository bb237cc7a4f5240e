<?php

declare(strict_types=1);

namespace Deferd\Tests\Psr;

use Deferd\Defer;
use Deferd\Psr\DeferMiddleware;
use Nyholm\Psr7\Response;
use Nyholm\Psr7\ServerRequest;
use PHPUnit\Framework\TestCase;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\RequestHandlerInterface;

final class DeferMiddlewareTest extends TestCase
{
    public function testHandsTheDeferToThoseBehindIt(): void
    {
        $defer = new Defer();
        $request = $this->requestBehind(new DeferMiddleware($defer));

        $this->assertSame($defer, $request->getAttribute('defer'));
        $this->assertSame($defer, $request->getAttribute(Defer::class));
    }

    private function requestBehind(DeferMiddleware $middleware): ServerRequestInterface
    {
        $response = new Response(204);
        $handler = new class ($response) implements RequestHandlerInterface {
            public ?ServerRequestInterface $request = null;

            public function __construct(private readonly ResponseInterface $response)
            {
            }

            public function handle(ServerRequestInterface $request): ResponseInterface
            {
                $this->request = $request;

                return $this->response;
            }
        };
        $this->assertSame($response, $middleware->process(new ServerRequest('GET', '/'), $handler));
        $this->assertInstanceOf(ServerRequestInterface::class, $handler->request);

        return $handler->request;
    }
}
