<?php

// Writes after the client may have left.

require __DIR__ . '/support.php';

register_shutdown_function(static fn () => mark('shutdown'));
mark('started');
wait_for_gate();
mark('woke');
for ($i = 0; $i < 100; $i++) {
    echo str_repeat('x', 10000);
    flush();
}
mark('still here');
