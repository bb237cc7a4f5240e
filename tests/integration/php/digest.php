<?php

// Answers with the SHA-256 of the request's body.

$hash = hash_init('sha256');
hash_update_stream($hash, fopen('php://input', 'rb'));
echo hash_final($hash);
