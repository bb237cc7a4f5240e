<?php

// Every kind of response, with deferred work behind it that waits for the test's gate.

require __DIR__ . '/../../../php/autoload.php';
require __DIR__ . '/support.php';

$defer = new Deferd\Defer();
$defer->defer(static function (): void {
    wait_for_gate();
    mark('ran in ' . getmypid());
}, 'gated');
header('X-Pid: ' . getmypid());
header('Content-Type: text/plain');

switch ($_GET['kind']) {
    case 'plain':
        echo "a plain body\n";
        break;
    case 'length':
        header('Content-Length: 13');
        echo "a plain body\n";
        break;
    case 'empty':
        break;
    case '204':
        http_response_code(204);
        break;
    case '304':
        http_response_code(304);
        break;
    case '302':
        header('Location: /elsewhere');
        break;
    case '500':
        http_response_code(500);
        echo "an error page\n";
        break;
    case 'flushed':
        echo "a plain ";
        flush();
        echo "body\n";
        break;
    case 'buffered':
        ob_start();
        ob_start(static fn (string $output): string => strtolower($output));
        echo "A PLAIN BODY\n";
        break;
    case 'compressed':
        ini_set('zlib.output_compression', '1');
        echo "a plain body\n";
        break;
    case 'large':
        for ($i = 0; $i < 1024; $i++) {
            echo str_repeat(chr($i % 256), 1024);
        }
        break;
    case 'exit':
        echo "a plain body\n";
        exit;
    case 'marker-like':
        echo "\x1EDEFERD/1 END ", str_repeat('0', 32), "\n\x1EDEFERD/1 END ";
        break;
    case 'stuck buffer':
        // Keeps the marker back; then PHP's own function ends the response.
        ob_start(null, 0, PHP_OUTPUT_HANDLER_STDFLAGS & ~PHP_OUTPUT_HANDLER_REMOVABLE);
        echo "a plain body\n";
        break;
}

if (isset($_GET['run'])) {
    $defer->run();
}
