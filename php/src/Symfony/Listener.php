<?php

declare(strict_types=1);

namespace Deferd\Symfony;

use Deferd\TaskName;
use Symfony\Component\EventDispatcher\Debug\WrappedListener;
use Symfony\Component\EventDispatcher\EventDispatcher;
use Symfony\Component\EventDispatcher\EventDispatcherInterface;

/**
 * A listener as a dispatcher has it: callable; in debug mode wrapped; or a service that was not constructed yet.
 *
 * @internal
 */
final class Listener
{
    private function __construct(public readonly string $name, public readonly \Closure $call)
    {
    }

    /**
     * The listeners behind the first one of that class, in the order in which they are called, without others of it.
     *
     * @return list<self>
     */
    public static function behind(string $class, EventDispatcherInterface $dispatcher, string $event): array
    {
        $behind = [];
        $found = false;
        foreach (self::all($dispatcher, $event) as $listener) {
            $listener = self::of($listener);
            if ($listener->isOf($class)) {
                $found = true;
            } elseif ($found) {
                $behind[] = $listener;
            }
        }

        return $behind;
    }

    public function isOf(string $class): bool
    {
        return str_starts_with($this->name, "$class::");
    }

    /**
     * getListeners() constructs the listeners that are services, all of them; the dispatcher each when it is its
     * turn. What it has is in a private property, which Symfony's TraceableEventDispatcher reads in this way, too.
     *
     * @return array<callable|array{\Closure, 1?: string}>
     */
    private static function all(EventDispatcherInterface $dispatcher, string $event): array
    {
        // @phpstan-ignore function.alreadyNarrowedType (another version need not have it)
        if ($dispatcher::class !== EventDispatcher::class || !property_exists($dispatcher, 'listeners')) {
            /** @var array<callable> $listeners */
            $listeners = $dispatcher->getListeners($event);

            return $listeners;
        }
        /** @var array<string, array<int, list<callable|array{\Closure, 1?: string}>>> $all */
        $all = (new \ReflectionProperty($dispatcher, 'listeners'))->getValue($dispatcher);
        $byPriority = $all[$event] ?? [];
        krsort($byPriority);

        return array_merge(...$byPriority);
    }

    /**
     * @param callable|array{\Closure, 1?: string} $listener
     */
    private static function of(callable|array $listener): self
    {
        if (is_array($listener) && $listener[0] instanceof \Closure) {
            return self::ofService($listener[0], $listener[1] ?? '__invoke');
        }
        if ($listener instanceof WrappedListener) {
            /** @var callable $wrapped */
            $wrapped = $listener->getWrappedListener();

            return new self(TaskName::of($wrapped), $listener(...));
        }
        /** @var callable $listener */

        return new self(TaskName::of($listener), $listener(...));
    }

    /**
     * It is constructed when it is called.
     */
    private static function ofService(\Closure $service, string $method): self
    {
        $call = static function (mixed ...$arguments) use ($service, $method): void {
            /** @var callable $listener */
            $listener = [$service(), $method];
            $listener(...$arguments);
        };

        return new self(self::className($service) . "::$method", $call);
    }

    /**
     * The class of the service that this closure gives. Symfony's container says so in an attribute.
     */
    private static function className(\Closure $service): string
    {
        $function = new \ReflectionFunction($service);
        foreach ($function->getAttributes(\Closure::class) as $attribute) {
            /** @var array{name?: string, class?: string} $arguments */
            $arguments = $attribute->getArguments();
            $class = $arguments['class'] ?? $arguments['name'] ?? null;
            if ($class !== null) {
                return $class;
            }
        }
        $type = $function->getReturnType();

        return $type instanceof \ReflectionNamedType && !$type->isBuiltin() ? $type->getName() : TaskName::of($service);
    }
}
