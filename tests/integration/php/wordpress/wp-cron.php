<?php

// Stands in for WordPress's file of this name, with its hooks shortened to one: the same calls in the same order.

ignore_user_abort(true);

if (!headers_sent()) {
    header('Expires: Wed, 11 Jan 1984 05:00:00 GMT');
    header('Cache-Control: no-cache, must-revalidate, max-age=0');
}

// Don't run cron until the request finishes, if possible.
if (function_exists('fastcgi_finish_request')) {
    fastcgi_finish_request();
} elseif (function_exists('litespeed_finish_request')) {
    litespeed_finish_request();
}

if (!empty($_POST) || defined('DOING_AJAX') || defined('DOING_CRON')) {
    die();
}

define('DOING_CRON', true);

require __DIR__ . '/../support.php';
wait_for_gate();
mark('event ran');

die();
