<?php

// Reads the request's body and tells how long it was.

$length = 0;
$in = fopen('php://input', 'rb');
while (($chunk = fread($in, 65536)) !== false && $chunk !== '') {
    $length += strlen($chunk);
}
echo $length;
