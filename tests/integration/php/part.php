<?php

// Reads no more than the beginning of the request's body.

echo strlen(fread(fopen('php://input', 'rb'), 10)), " bytes were read\n";
