<?php

// What the scripts share.

/** Waits until the test opens the gate named in the query. */
function wait_for_gate(): void
{
    $gate = fopen($_GET['gate'], 'r');
    flock($gate, LOCK_SH);
    fclose($gate);
}

/** Appends a line to the file named in the query. Without a lock: one write needs none, and the wait
 * for one fails when the worker gets SIGQUIT. */
function mark(string $line): void
{
    file_put_contents($_GET['marks'], $line . "\n", FILE_APPEND);
}
