<?php

/**
 * PHPUnit's bootstrap where its own process is to be looked at by a Collector, as the programs are that tests start.
 */

declare(strict_types=1);

require __DIR__ . '/Collector.php';
Deferd\Tests\Collector::start((string) getenv('DEFERD_COVERAGE'));
require __DIR__ . '/../vendor/autoload.php';
