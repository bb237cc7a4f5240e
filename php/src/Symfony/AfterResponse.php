<?php

declare(strict_types=1);

namespace Deferd\Symfony;

use Deferd\Attempt;
use Deferd\Channel;
use Deferd\Watch;
use Symfony\Component\EventDispatcher\EventDispatcherInterface;
use Symfony\Component\HttpKernel\Event\TerminateEvent;
use Symfony\Component\HttpKernel\HttpCache\HttpCache;
use Symfony\Component\HttpKernel\KernelEvents;
use Symfony\Component\HttpKernel\KernelInterface;

/**
 * Lets deferd see the listeners of kernel.terminate, by name.
 *
 * It is a listener of that event itself, in front of all others. It calls them as the dispatcher would: in their
 * order, with what they expect, until one stops the event or throws. Then it stops the event, so that the dispatcher
 * does not call them again.
 */
final class AfterResponse
{
    /** The priority that makes it the first. */
    public const FIRST = \PHP_INT_MAX;

    public static function watch(EventDispatcherInterface $dispatcher): void
    {
        $dispatcher->addListener(KernelEvents::TERMINATE, new self(), self::FIRST);
    }

    /**
     * The same for an application that knows nothing of us, at the latest when the response ends. Its kernel is in a
     * global variable: the front controller's $kernel, or symfony/runtime's $app.
     *
     * @return bool whether there is one
     */
    public static function watchKernel(): bool
    {
        foreach ($GLOBALS as $value) {
            $kernel = $value instanceof HttpCache ? $value->getKernel() : $value;
            if ($kernel instanceof KernelInterface) {
                Attempt::to('watch the listeners of kernel.terminate', static fn () => self::watchOf($kernel));

                return true;
            }
        }

        return false;
    }

    public function __invoke(TerminateEvent $event, string $name, EventDispatcherInterface $dispatcher): void
    {
        // As long as the client waits, this is no deferred work; without deferd, nobody watches.
        if (!Channel::current()->reports()) {
            return;
        }
        $listeners = Listener::behind(self::class, $dispatcher, $name);
        if ($listeners === []) {
            return;
        }
        foreach (self::watched($listeners) as $listener) {
            if ($event->isPropagationStopped()) {
                break;
            }
            $listener($event, $name, $dispatcher);
        }
        $event->stopPropagation();
    }

    private static function watchOf(KernelInterface $kernel): void
    {
        try {
            $dispatcher = $kernel->getContainer()->get('event_dispatcher');
        } catch (\LogicException) {
            // The response came from Symfony's HTTP cache. The kernel was not booted, and dispatches nothing.
            return;
        }
        if ($dispatcher instanceof EventDispatcherInterface) {
            self::watch($dispatcher);
        }
    }

    /**
     * Our own Runner is not watched: what it runs are tasks already.
     *
     * @param list<Listener> $listeners
     *
     * @return list<\Closure>
     */
    private static function watched(array $listeners): array
    {
        return array_map(
            static fn (Listener $listener): \Closure => $listener->isOf(Runner::class)
                ? $listener->call
                : Watch::callback($listener->call, $listener->name),
            $listeners
        );
    }
}
