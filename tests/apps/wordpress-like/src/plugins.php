<?php

/**
 * Two plugins: one works on `shutdown`, and knows nothing of deferd, the other one defers.
 */

declare(strict_types=1);

use Deferd\Defer;

function note(string $name): void
{
    file_put_contents((string) getenv('DEMO_LOG'), getmypid() . " $name\n", FILE_APPEND);
}

function send_statistics(): void
{
    note('statistics');
}

add_action('visit', static function (): void {
    add_action('shutdown', 'send_statistics');
});

add_action('save_post', static function (int $post): void {
    (new Defer())->defer(static fn () => note("reindex $post"), 'reindex');
});

add_action('save_post', static function (int $post): void {
    (new Defer())->defer(static fn () => note("mail $post"), 'mail');
});
