<?php

// Waits until the test opens the gate, then answers.

require __DIR__ . '/support.php';

wait_for_gate();
echo "passed\n";
