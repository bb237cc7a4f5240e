<?php

// Where an installation has the package itself.
require __DIR__ . '/../../../../../php/autoload.php';
