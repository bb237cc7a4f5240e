<?php

// As many MiB as the query says.

header('Content-Type: application/octet-stream');
$chunk = str_repeat('x', 65536);
for ($left = 16 * (int) $_GET['mib']; $left > 0; $left--) {
    echo $chunk;
}
