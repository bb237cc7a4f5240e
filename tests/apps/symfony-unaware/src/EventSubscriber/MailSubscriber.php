<?php

declare(strict_types=1);

namespace App\EventSubscriber;

use App\Outbox;
use App\Trace;
use Symfony\Component\EventDispatcher\EventSubscriberInterface;
use Symfony\Component\HttpKernel\Event\TerminateEvent;
use Symfony\Component\HttpKernel\KernelEvents;

/**
 * Sends the mails first, and cleans up behind all others.
 */
final class MailSubscriber implements EventSubscriberInterface
{
    public function __construct(private readonly Outbox $outbox, private readonly Trace $trace)
    {
        $trace->add('MailSubscriber constructed');
    }

    public static function getSubscribedEvents(): array
    {
        return [KernelEvents::TERMINATE => [['send', 10], ['cleanUp', -10]]];
    }

    public function send(TerminateEvent $event): void
    {
        $this->outbox->send($event->getRequest()->query->getInt('ms', 100));
        if ($event->getRequest()->query->has('stop')) {
            $event->stopPropagation();
        }
    }

    public function cleanUp(): void
    {
        $this->trace->add('cleaned up');
    }
}
