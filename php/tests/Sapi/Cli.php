<?php

declare(strict_types=1);

namespace Deferd\Tests\Sapi;

/**
 * The command line.
 */
final class Cli implements Sapi
{
    public function run(string $folder, array $settings): string
    {
        Process::start([PHP_BINARY, ...Process::options($settings), "$folder/script.php"], $folder)->wait();

        return (string) file_get_contents("$folder/output");
    }
}
