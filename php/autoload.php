<?php

/**
 * For an application without Composer: require this file once and Deferd\Defer is there.
 */

declare(strict_types=1);

// In front of others, as Composer's: theirs need not know what to do about a class that is ours.
spl_autoload_register(static function (string $class): void {
    if (!str_starts_with($class, 'Deferd\\')) {
        return;
    }
    $file = __DIR__ . '/src/' . strtr(substr($class, strlen('Deferd\\')), '\\', '/') . '.php';
    if (is_file($file)) {
        require $file;
    }
}, true, true);
