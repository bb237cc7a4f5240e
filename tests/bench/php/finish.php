<?php

// The same with what PHP itself has.

echo 'hello';
fastcgi_finish_request();
usleep(1000 * mt_rand((int) $_GET['least'], (int) $_GET['most']));
