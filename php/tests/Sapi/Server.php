<?php

declare(strict_types=1);

namespace Deferd\Tests\Sapi;

/**
 * php -S.
 */
final class Server implements Sapi
{
    /**
     * @param bool $leaves whether the client goes away when it has the first bytes; the script says with the note
     *                     "over" that it is
     */
    public function __construct(private readonly bool $leaves = false, private readonly string $method = 'GET')
    {
    }

    public function run(string $folder, array $settings): string
    {
        $address = self::freeAddress();
        $server = Process::start(
            [PHP_BINARY, ...Process::options($settings), '-S', $address, "$folder/script.php"],
            $folder,
            name: 'server-'
        );
        try {
            $client = false;
            Process::waitUntil(static function () use ($address, &$client): bool {
                $client = @stream_socket_client("tcp://$address");

                return $client !== false;
            }, 'php -S to listen');
            assert(is_resource($client));
            fwrite($client, "{$this->method} / HTTP/1.0\r\n\r\n");
            $answer = $this->leaves ? (string) fread($client, 1) : (string) stream_get_contents($client);
            fclose($client);
            if ($this->leaves) {
                Process::waitUntil(static fn (): bool => is_file("$folder/notes")
                    && str_contains((string) file_get_contents("$folder/notes"), "over\n"), 'the script to end');
            }
        } finally {
            $server->signal(SIGINT);
            $server->wait();
        }

        return $answer;
    }

    private static function freeAddress(): string
    {
        $socket = stream_socket_server('tcp://127.0.0.1:0');
        assert($socket !== false);
        $address = (string) stream_socket_get_name($socket, false);
        fclose($socket);

        return $address;
    }
}
