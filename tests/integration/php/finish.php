<?php

// An application that knows nothing of deferd.

require __DIR__ . '/support.php';

header('X-Pid: ' . getmypid());
echo "finished natively\n";
$finished = fastcgi_finish_request();
mark($finished ? 'finished' : 'not finished');
wait_for_gate();
mark('ran in ' . getmypid());
// Without deferd PHP ends the script here, as the connection is gone; deferd drops it.
echo str_repeat('nobody reads this', 10000);
