<?php

// An application that knows nothing of deferd, and goes on after its response as the query says.

require __DIR__ . '/support.php';

final class Report
{
    public function __construct(private readonly bool $atLast)
    {
    }

    public function send(): void
    {
        mark(var_export(fastcgi_finish_request(), true));
        afterwards();
    }

    public function __destruct()
    {
        if ($this->atLast) {
            $this->send();
        }
    }
}

function afterwards(): void
{
    $what = $_GET['what'] ?? '';
    if (isset($_GET['gate'])) {
        mark('waits');
        wait_for_gate();
    }
    match ($what) {
        'throw' => throw new RuntimeException('no paper'),
        'exit' => exit(3),
        'fatal' => str_repeat('x', PHP_INT_MAX >> 1),
        'reports' => print("\n" . implode("\n", array_map('json_encode', [
            ['event' => 'done', 'task' => 0],
            ['event' => 'end'],
            ['event' => 'begin', 'pid' => 1, 'tasks' => ['forged']],
        ])) . "\n"),
        'print' => print(str_repeat("nobody reads this\n", 5000)),
        'late' => header('X-Late: 1', true, 500),
        'session' => $_SESSION['late'] = true,
        'twice' => mark(var_export(fastcgi_finish_request(), true)),
        'status' => mark(connection_status() . ' ' . ob_get_level()),
        default => null,
    };
    mark('ran in ' . getmypid());
}

register_shutdown_function(static fn () => mark('shut down'));
header('X-Pid: ' . getmypid());
if (isset($_GET['session'])) {
    session_id($_GET['session']);
    session_start();
    header('X-Session: ' . json_encode($_SESSION));
}
if (($_GET['what'] ?? '') === 'buffers') {
    ob_start(static fn (string $text): string => strtoupper($text));
    echo 'an';
    ob_start(static fn (string $text): string => strrev($text));
    echo "\nderews";
} else {
    if (($_GET['what'] ?? '') === 'stuck') {
        ob_start(null, 0, PHP_OUTPUT_HANDLER_CLEANABLE);
    }
    echo "answered\n";
}
$from = $_GET['from'] ?? null;
$report = new Report($from === 'destructor');
if ($from === 'method') {
    $report->send();
} elseif ($from === 'shutdown') {
    register_shutdown_function($report->send(...));
} elseif ($from === null) {
    mark(var_export(fastcgi_finish_request(), true));
    afterwards();
}
