<?php

/**
 * The deferd polyfill: what an application that knows nothing of deferd does after fastcgi_finish_request()
 * shows up in deferd's log and in deferctl, by name. In php.ini, for all pools of a php-fpm:
 *
 *     auto_prepend_file = /usr/share/deferd/php/polyfill.php
 *     disable_functions = fastcgi_finish_request
 *
 * A request that does not call the function loads nothing else. Every PHP must be able to read this file, also one
 * that is too old for the rest.
 */

if (PHP_VERSION_ID >= 80100 && PHP_SAPI === 'fpm-fcgi' && !function_exists('fastcgi_finish_request')) {
    /**
     * @return bool whether the client has its response; false also when it had it before
     */
    function fastcgi_finish_request()
    {
        if (!class_exists('Deferd\Polyfill', false)) {
            // An application that brings a deferd/defer of its own keeps it: two versions must not mix. Only Composer
            // is asked, as other autoloaders may fail for a class that they do not know.
            $own = class_exists('Deferd\Defer', false);
            $composer = 'Composer\Autoload\ClassLoader';
            if (class_exists($composer, false) && method_exists($composer, 'getRegisteredLoaders')) {
                foreach ($composer::getRegisteredLoaders() as $loader) {
                    $own = $own || $loader->findFile('Deferd\Defer') !== false;
                }
            }
            if (!$own) {
                require_once __DIR__ . '/autoload.php';
            }
            if (!class_exists('Deferd\Polyfill')) {
                return (new Deferd\Defer())->finishResponse();
            }
        }

        return Deferd\Polyfill::finish();
    }
}
