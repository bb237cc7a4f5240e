<?php

// Sends the headers and a part if it is to, waits for the gate, sends the rest.

require __DIR__ . '/../../../php/autoload.php';
require __DIR__ . '/support.php';

if (isset($_GET['defer'])) {
    (new Deferd\Defer())->defer(static fn () => mark('deferred'));
}
header('X-Pid: ' . getmypid());
header('Content-Type: text/plain');
if (isset($_GET['length'])) {
    header('Content-Length: ' . $_GET['length']);
}
if (isset($_GET['part']) || isset($_GET['length'])) {
    echo 'a part';
    flush();
}
mark('waits');
wait_for_gate();
mark('woke');
if (!isset($_GET['length'])) {
    echo ' and the rest';
}
