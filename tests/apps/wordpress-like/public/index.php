<?php

/**
 * Not WordPress, which the tests cannot have: an application that is laid out like it where deferd is concerned. It
 * loads the must-use plugin of php/examples/wordpress, then plugins, prints a page from an output buffer, and calls
 * the action `shutdown` in a shutdown function, which sends the buffer at priority 1. Its wp-cron.php works as
 * WordPress's: it lets its client go first.
 */

declare(strict_types=1);

const PACKAGE = __DIR__ . '/../../../../php';
const WP_CONTENT_DIR = __DIR__ . '/../wp-content';

require __DIR__ . '/../src/hooks.php';
add_action('shutdown', static function (): void {
    while (ob_get_level() > 0) {
        ob_end_flush();
    }
}, 1);
require PACKAGE . '/examples/wordpress/mu-plugins/deferd.php';
require __DIR__ . '/../src/plugins.php';
register_shutdown_function('do_action', 'shutdown');

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/wp-cron.php') {
    ignore_user_abort(true);
    fastcgi_finish_request();
    note('cron');
    exit;
}

ob_start();
if ($path === '/visit') {
    do_action('visit');
}
if ($path === '/visit' || $path === '/save') {
    do_action('save_post', 7);
}
echo "a page\n";
