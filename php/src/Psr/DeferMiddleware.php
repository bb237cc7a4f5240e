<?php

declare(strict_types=1);

namespace Deferd\Psr;

use Deferd\Defer;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\MiddlewareInterface;
use Psr\Http\Server\RequestHandlerInterface;

/**
 * For Slim 4 and any PSR-15 application: hands the Defer to those behind it, as the request's attributes `defer` and
 * Defer::class.
 *
 *     $request->getAttribute('defer')->defer(fn () => $this->mailer->send($mail));
 *
 * It runs nothing: a response that a middleware returns was not sent yet. The callbacks run at the end of the
 * request, or where run() is called, behind the emitter.
 */
final class DeferMiddleware implements MiddlewareInterface
{
    public const ATTRIBUTE = 'defer';

    public function __construct(private readonly Defer $defer)
    {
    }

    public function process(ServerRequestInterface $request, RequestHandlerInterface $handler): ResponseInterface
    {
        return $handler->handle(
            $request->withAttribute(self::ATTRIBUTE, $this->defer)->withAttribute(Defer::class, $this->defer)
        );
    }
}
