<?php

declare(strict_types=1);

namespace Deferd\Tests\Sapi;

/**
 * A way to run PHP.
 */
interface Sapi
{
    /**
     * Runs script.php in this folder, and returns when it has ended.
     *
     * @param list<string> $settings of php.ini, as name=value
     *
     * @return string what the client got, headers included
     */
    public function run(string $folder, array $settings): string;
}
