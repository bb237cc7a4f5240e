<?php

// Registers tasks that behave as the query says: ok, fail, add, gate, print, stderr.

require __DIR__ . '/../../../php/autoload.php';
require __DIR__ . '/support.php';

$defer = new Deferd\Defer();
foreach (explode(',', $_GET['tasks']) as $number => $kind) {
    $defer->defer(match ($kind) {
        'ok' => static fn () => mark("ok $number"),
        'fail' => static fn () => throw new RuntimeException("no $number"),
        'add' => static fn () => $defer->defer(static fn () => mark("added by $number"), 'added'),
        'gate' => static function () use ($number): void {
            mark("waits $number");
            wait_for_gate();
            mark("ok $number");
        },
        'print' => static function () use ($number): void {
            echo str_repeat("printed by $number\n", 5000);
            mark("ok $number");
        },
        'stderr' => static function () use ($number): void {
            error_log("said by $number", 4);
            mark("ok $number");
        },
    }, "$kind $number");
}
header('X-Pid: ' . getmypid());
echo "answered\n";
$defer->run();
