<?php

declare(strict_types=1);

namespace Deferd;

/**
 * The name of a callback that was given none.
 *
 * @internal
 */
final class TaskName
{
    /**
     * A function's name, Class::method, a closure's file:line, or a job's class.
     */
    public static function of(callable|JobInterface $callback): string
    {
        if ($callback instanceof \Closure) {
            return self::ofClosure($callback);
        }
        if ($callback instanceof JobInterface) {
            return self::ofClass($callback::class);
        }
        if (is_array($callback)) {
            [$class, $method] = $callback;

            return self::ofMethod(is_object($class) ? $class::class : $class, $method);
        }

        return is_string($callback) ? $callback : self::ofMethod(get_debug_type($callback), '__invoke');
    }

    private static function ofClosure(\Closure $closure): string
    {
        $function = new \ReflectionFunction($closure);
        $name = $function->getName();
        // "{closure}", with its namespace in front, and from PHP 8.4 on "{closure:where:line}".
        if (str_contains($name, '{closure')) {
            return $function->getFileName() . ':' . $function->getStartLine();
        }
        // A first-class callable, strlen(...) or $object->method(...).
        $object = $function->getClosureThis();
        $class = $object !== null ? $object::class : $function->getClosureScopeClass()?->getName();

        return $class === null ? $name : self::ofMethod($class, $name);
    }

    public static function ofMethod(string $class, string $method): string
    {
        return self::ofClass($class) . "::$method";
    }

    private static function ofClass(string $class): string
    {
        // The name of an anonymous class goes on with a null byte, its file and its line.
        return explode("\0", $class)[0];
    }
}
