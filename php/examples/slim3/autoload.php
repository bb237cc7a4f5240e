<?php

/**
 * Composer's autoloader, or, in a checkout of this repository where nothing was installed, the same from Debian's
 * package php-slim.
 */

declare(strict_types=1);

if (is_file(__DIR__ . '/vendor/autoload.php')) {
    require __DIR__ . '/vendor/autoload.php';

    return;
}

require '/usr/share/php/Slim/autoload.php';
require __DIR__ . '/../../autoload.php';
spl_autoload_register(static function (string $class): void {
    if (str_starts_with($class, 'App\\')) {
        require __DIR__ . '/src/' . strtr(substr($class, strlen('App\\')), '\\', '/') . '.php';
    }
});
