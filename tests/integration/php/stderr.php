<?php

// Writes to the FastCGI error stream while the client waits.

error_log('said while running', 4);
echo "said\n";
