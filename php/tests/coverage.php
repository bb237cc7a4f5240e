<?php

/**
 * Adds up what the tests' own process covered (phpunit --coverage-php) and what the programs did that they started
 * (Collector), and prints what no test reached. Fails below the given share of lines, in percent.
 *
 *     php tests/coverage.php FOLDER PERCENT
 */

declare(strict_types=1);

use SebastianBergmann\CodeCoverage\CodeCoverage;
use SebastianBergmann\CodeCoverage\Data\RawCodeCoverageData;
use SebastianBergmann\CodeCoverage\Report\Text;
use SebastianBergmann\CodeCoverage\Report\Thresholds;

require __DIR__ . '/../vendor/autoload.php';

[, $folder, $least] = $argv + [1 => '', 2 => '100'];
$coverage = require "$folder/phpunit.cov";
assert($coverage instanceof CodeCoverage);
foreach (glob("$folder/*-*") ?: [] as $i => $file) {
    /** @var list<array<string, array<int, int>>> $pieces */
    $pieces = unserialize((string) file_get_contents($file));
    foreach ($pieces as $lines) {
        $coverage->append(RawCodeCoverageData::fromXdebugWithoutPathCoverage($lines), "program $i");
    }
}
$report = $coverage->getReport();
echo (new Text(Thresholds::default(), true, false))->process($coverage);
/** @var array<string, array<int, list<string>|null>> $covered by file and line; null where there is no code */
$covered = $coverage->getData()->lineCoverage();
foreach ($covered as $file => $lines) {
    $missed = array_keys($lines, [], true);
    if ($missed !== []) {
        echo "not covered: $file:" . implode(',', $missed) . "\n";
    }
}
$share = $report->percentageOfExecutedLines()->asFloat();
if ($share < (float) $least) {
    echo "line coverage is $share %, less than $least %\n";
    exit(1);
}
