<?php

// Answers at once and works 20 ms behind it; each registered callback leaves one line when it ran.

require __DIR__ . '/../../../php/autoload.php';
require __DIR__ . '/support.php';

$id = bin2hex(random_bytes(8));
$defer = new Deferd\Defer();
$defer->defer(static function () use ($id): void {
    usleep(20000);
    mark("ran $id");
});
mark("registered $id");
echo "ok\n";
$defer->run();
