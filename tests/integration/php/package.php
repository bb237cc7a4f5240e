<?php

// Defers what the query names, in this order; with `run` the callbacks do not wait for the end of the request.

require __DIR__ . '/../../../php/autoload.php';
require __DIR__ . '/support.php';

$defer = new Deferd\Defer();
foreach (explode(',', $_GET['tasks']) as $number => $kind) {
    $defer->defer(match ($kind) {
        'ok' => static fn () => mark("ok $number"),
        'progress' => static function (Deferd\Task $task): void {
            $task->progress(0.4, 'two of five');
            wait_for_gate();
            mark($task->stopped() ? 'stopped' : 'goes on');
        },
        'memory' => static fn () => str_repeat('x', 1 << 40),
        'limit' => static function (): void {
            while (true) {
            }
        },
    }, "$kind $number")->timeLimit(1);
}
echo "answered\n";
if (isset($_GET['run'])) {
    $defer->run();
}
