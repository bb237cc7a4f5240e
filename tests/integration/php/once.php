<?php

// Answers with the request's id, which is its body or stands in the query, and leaves one line for each run:
// the id, the connection it came on, and what of it there was. With "native" or "defer", a second one behind
// the response; with "linger", the response comes a little later.

require __DIR__ . '/../../../php/autoload.php';
require __DIR__ . '/support.php';

/** The connection to the web server, by this worker's sockets: all others are always the same. */
function connection(): string
{
    $sockets = [];
    foreach (scandir('/proc/self/fd') as $fd) {
        $target = @readlink("/proc/self/fd/$fd");
        if ($target !== false && str_starts_with($target, 'socket:')) {
            $sockets[] = substr($target, 8, -1);
        }
    }

    return getmypid() . '/' . implode('+', $sockets);
}

$body = file_get_contents('php://input');
$id = $body !== '' ? $body : $_GET['id'];
mark("$id ran " . connection() . ($body !== '' ? ' body' : ' empty'));
if (isset($_GET['linger'])) {
    usleep(2000);
}
header('Content-Length: ' . strlen($id));

if (isset($_GET['defer'])) {
    (new Deferd\Defer())->defer(static fn () => mark("$id deferred"));
}
echo $id;
if (isset($_GET['native'])) {
    fastcgi_finish_request();
    mark("$id deferred");
}
