<?php

declare(strict_types=1);

namespace Deferd\Symfony;

use Deferd\Defer;
use Psr\Log\LoggerInterface;

/**
 * Makes the container's Defer, and runs it when the response has gone.
 *
 * @internal
 */
final class Runner
{
    private ?Defer $defer = null;

    public function __construct(private readonly ?LoggerInterface $logger, private readonly bool $skipOnError)
    {
    }

    public function defer(): Defer
    {
        return $this->defer = new Defer($this->logger, skipOnError: $this->skipOnError);
    }

    /**
     * On kernel.terminate. Where that does not come, as after exit, the callbacks run at the end of the request.
     */
    public function __invoke(): void
    {
        $this->defer?->run();
    }

    /**
     * In a program that lives on, such as a consumer of messages, the end of a message is the end of its request. In
     * a web server a kernel that handles a second request may not have sent the first one's response yet.
     */
    public function reset(): void
    {
        if (PHP_SAPI === 'cli') {
            $this->defer?->run();
        }
    }
}
