<?php

// The simplest application: no deferred work.

header('X-Pid: ' . getmypid());
echo "hello\n";
