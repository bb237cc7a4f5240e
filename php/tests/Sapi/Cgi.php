<?php

declare(strict_types=1);

namespace Deferd\Tests\Sapi;

/**
 * php-cgi, as a web server starts it for a request.
 */
final class Cgi implements Sapi
{
    /**
     * @param array<string, string> $params of the request
     */
    public function __construct(private readonly array $params = [])
    {
    }

    public function run(string $folder, array $settings): string
    {
        $command = ['php-cgi', ...Process::options($settings)];
        // Of our environment, what says where php.ini's parts are.
        $environment = Request::params("$folder/script.php", $this->params)
            + array_intersect_key(getenv(), ['PHP_INI_SCAN_DIR' => true]);
        Process::start($command, $folder, $environment)->wait();

        return (string) file_get_contents("$folder/output");
    }
}
