<?php

/**
 * Plugin Name: deferd
 * Description: What plugins do on `shutdown` is done when the visitor has the page, and deferd shows it by name.
 *
 * For wp-content/mu-plugins, with this package in wp-content/deferd. Plugins and themes then defer with
 *
 *     (new Deferd\Defer())->defer(fn () => reindex($post), 'reindex');
 */

declare(strict_types=1);

require_once WP_CONTENT_DIR . '/deferd/autoload.php';

// WordPress sends the rest of the page at priority 1. What a later callback prints reaches nobody.
add_action('shutdown', static function (): void {
    $hook = $GLOBALS['wp_filter']['shutdown'];
    $watched = 0;
    foreach ($hook->callbacks as $priority => $callbacks) {
        foreach ($priority > 2 ? $callbacks : [] as $id => $callback) {
            $hook->callbacks[$priority][$id]['function'] = Deferd\Watch::callback($callback['function']);
            $watched++;
        }
    }
    if ($watched > 0) {
        Deferd\FinishRequest::finish(restIsTask: false);
    }
}, 2);
