<?php

// Run by nobody but an attacker.

file_put_contents($_SERVER['DEFERD_TEST_TRACE'] ?? '/dev/null', 'run ' . getmypid() . "\n", FILE_APPEND);
