<?php

// What Defer costs a request that defers nothing, one step more each: see defer_cost.py.

$step = (int) $_GET['step'];
if ($step >= 1) {
    require __DIR__ . '/../../../php/autoload.php';
}
if ($step >= 2) {
    $defer = new Deferd\Defer();
}
echo 'hello';
if ($step >= 3) {
    $defer->run();
}
