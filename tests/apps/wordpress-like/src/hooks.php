<?php

/**
 * Actions as WordPress has them: functions of these names, callbacks by priority, in an object that plugins can reach.
 */

declare(strict_types=1);

final class Hook
{
    /** @var array<int, array<string, array{function: callable, accepted_args: int}>> */
    public array $callbacks = [];

    /** @param list<mixed> $arguments */
    public function call(array $arguments): void
    {
        ksort($this->callbacks);
        foreach (array_keys($this->callbacks) as $priority) {
            foreach ($this->callbacks[$priority] as $callback) {
                $callback['function'](...array_slice($arguments, 0, $callback['accepted_args']));
            }
        }
    }
}

/** @var array<string, Hook> $wp_filter */
$wp_filter = [];

function add_action(string $name, callable $callback, int $priority = 10, int $accepted = 1): void
{
    $hook = $GLOBALS['wp_filter'][$name] ??= new Hook();
    $hook->callbacks[$priority][] = ['function' => $callback, 'accepted_args' => $accepted];
}

function do_action(string $name, mixed ...$arguments): void
{
    if (isset($GLOBALS['wp_filter'][$name])) {
        $GLOBALS['wp_filter'][$name]->call($arguments === [] ? [''] : $arguments);
    }
}
