<?php

declare(strict_types=1);

namespace Deferd\Tests\Sapi;

/**
 * What a web server tells PHP of a request.
 */
final class Request
{
    /**
     * @param array<string, string> $params in addition
     *
     * @return array<string, string>
     */
    public static function params(string $script, array $params): array
    {
        return $params + [
            'PATH' => (string) getenv('PATH'),
            'GATEWAY_INTERFACE' => 'CGI/1.1',
            'REDIRECT_STATUS' => '200',
            'REQUEST_METHOD' => 'GET',
            'REQUEST_URI' => '/script.php',
            'SCRIPT_FILENAME' => $script,
            'SCRIPT_NAME' => '/script.php',
            'SERVER_PROTOCOL' => 'HTTP/1.1',
        ];
    }
}
