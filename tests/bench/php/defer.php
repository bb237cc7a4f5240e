<?php

// Answers, and behind that waits for a time between `least` and `most` milliseconds; without them nothing is deferred.

require __DIR__ . '/../../../php/autoload.php';

$defer = new Deferd\Defer();
if (isset($_GET['least'])) {
    $defer->defer(static fn () => usleep(1000 * mt_rand((int) $_GET['least'], (int) $_GET['most'])));
}
echo 'hello';
$defer->run();
