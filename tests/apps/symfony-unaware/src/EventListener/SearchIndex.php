<?php

declare(strict_types=1);

namespace App\EventListener;

use App\Trace;
use Symfony\Component\EventDispatcher\Attribute\AsEventListener;
use Symfony\Component\EventDispatcher\EventDispatcherInterface;
use Symfony\Component\HttpKernel\Event\TerminateEvent;
use Symfony\Component\HttpKernel\KernelEvents;

#[AsEventListener(event: KernelEvents::TERMINATE, method: 'update')]
final class SearchIndex
{
    public function __construct(private readonly Trace $trace)
    {
        $trace->add('SearchIndex constructed');
    }

    public function update(TerminateEvent $event, string $name, EventDispatcherInterface $dispatcher): void
    {
        $this->trace->add('index updated on ' . $name . ' of ' . $dispatcher::class);
        if ($event->getRequest()->query->has('fail')) {
            throw new \RuntimeException('The index is away');
        }
        if ($event->getRequest()->query->has('exit')) {
            exit;
        }
    }
}
