<?php

// An application that has Deferd\Defer, and a library that knows nothing of it and ends the response.

require __DIR__ . '/support.php';
require __DIR__ . '/../../../php/autoload.php';

$defer = new Deferd\Defer();
$defer->defer(static fn () => mark('deferred before'), 'before');
echo "answered\n";
mark(var_export(fastcgi_finish_request(), true));
$defer->defer(static fn () => mark('deferred after'), 'after');
mark('the rest');
