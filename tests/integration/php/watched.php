<?php

// An application whose framework calls what it has to do after the response itself.

require __DIR__ . '/../../../php/autoload.php';
require __DIR__ . '/support.php';

$listeners = [
    Deferd\Watch::callback(static fn () => mark('report'), 'report'),
    Deferd\Watch::callback(static fn () => throw new RuntimeException('no disk'), 'archive'),
];
echo "answered\n";
Deferd\FinishRequest::finish();
$listeners[] = Deferd\Watch::callback('time', 'uncalled');
foreach ($listeners as $listener) {
    try {
        $listener();
    } catch (RuntimeException $error) {
        mark($error->getMessage());
        break;
    }
}
(new Deferd\Defer())->defer(static fn () => mark('mail'), 'mail');
