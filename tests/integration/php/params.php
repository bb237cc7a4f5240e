<?php

// Lists the params of the request as PHP has them, one a line.

header('Content-Type: text/plain');
echo "\n";
foreach ($_SERVER as $name => $value) {
    if (is_string($value)) {
        echo $name, '=', $value, "\n";
    }
}
