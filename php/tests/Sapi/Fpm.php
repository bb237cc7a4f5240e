<?php

declare(strict_types=1);

namespace Deferd\Tests\Sapi;

/**
 * php-fpm, without deferd; with a DEFERD_TOKEN among the params, as deferd sees it.
 */
final class Fpm implements Sapi
{
    /**
     * @param array<string, string> $params of the request
     */
    public function __construct(private readonly array $params = [])
    {
    }

    public function run(string $folder, array $settings): string
    {
        file_put_contents("$folder/fpm.conf", <<<INI
            [global]
            error_log = $folder/fpm.log
            daemonize = no
            process_control_timeout = 20s
            [www]
            listen = $folder/fpm.sock
            pm = static
            pm.max_children = 1
            INI);
        $options = ['-y', "$folder/fpm.conf", ...Process::options($settings)];
        if (posix_getuid() === 0) {
            $options[] = '-R';
            file_put_contents("$folder/fpm.conf", "\nuser = root\ngroup = root\n", FILE_APPEND);
        }
        $fpm = Process::start([self::program(), ...$options], $folder, name: 'fpm-');
        try {
            Process::waitUntil(static fn (): bool => file_exists("$folder/fpm.sock"), 'php-fpm to listen');
            $request = Request::params("$folder/script.php", $this->params);
            Process::start(['cgi-fcgi', '-bind', '-connect', "$folder/fpm.sock"], $folder, $request)->wait();
        } finally {
            // It ends when the worker has.
            $fpm->signal(SIGQUIT);
            $fpm->wait();
        }

        return (string) file_get_contents("$folder/output");
    }

    private static function program(): string
    {
        $places = ['/usr/sbin', '/usr/local/sbin', dirname(PHP_BINARY, 2) . '/sbin'];
        $name = 'php-fpm' . PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION;
        foreach ($places as $place) {
            foreach (["$place/$name", "$place/php-fpm"] as $program) {
                if (is_executable($program)) {
                    return $program;
                }
            }
        }
        throw new \RuntimeException("$name is not installed");
    }
}
