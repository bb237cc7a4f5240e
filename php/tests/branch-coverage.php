<?php

/**
 * Adds up what the tests' own process and the programs that they started went through (Collector), and prints the
 * branches and the ways between them that no test took. Fails if they are others than those in the list of exceptions.
 *
 *     php tests/branch-coverage.php FOLDER EXCEPTIONS
 */

declare(strict_types=1);

use Deferd\Tests\Branches;

require __DIR__ . '/../vendor/autoload.php';

[, $folder, $list] = $argv + [1 => '', 2 => ''];
$root = dirname(__DIR__);
$config = simplexml_load_file("$root/phpunit.xml.dist");
assert($config !== false);
$branches = new Branches("$root/", array_map(strval(...), array_values($config->xpath('//source/exclude/*') ?: [])));
foreach (glob("$folder/*-*") ?: [] as $file) {
    $branches->add($file);
}
// Lines that begin with # are the reasons.
$lines = file($list, FILE_IGNORE_NEW_LINES) ?: [];
$exceptions = array_filter($lines, static fn (string $line): bool => $line !== '' && $line[0] !== '#');
[$all, $ways] = $branches->count();
$excepted = count($exceptions);
$wrong = 0;
foreach ($branches->missed() as [$where, $branch]) {
    $place = array_search($branch, $exceptions, true);
    if ($place === false) {
        echo "not covered: $where $branch\n";
        $wrong++;
    } else {
        // One each: two branches may read the same.
        unset($exceptions[$place]);
    }
}
foreach ($exceptions as $exception) {
    echo "covered, or not there, so not an exception: $exception\n";
}
echo "$all branches, $ways ways between them: $wrong not covered, $excepted exceptions\n";
$here = PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION;
if (!in_array("# Made with PHP $here", $lines, true)) {
    echo "the exceptions were made with another PHP than $here: nothing follows from that\n";
    exit($all > 0 ? 0 : 1);
}
exit($all > 0 && $wrong === 0 && $exceptions === [] ? 0 : 1);
