<?php

declare(strict_types=1);

namespace Deferd\Tests\Sapi;

/**
 * A program that a test starts; what it says goes to files in the test's folder.
 */
final class Process
{
    private const PATIENCE = 20.0;

    /**
     * @param resource $handle
     */
    private function __construct(private $handle)
    {
    }

    /**
     * @param list<string>               $command
     * @param array<string, string>|null $environment null for ours
     */
    public static function start(array $command, string $folder, ?array $environment = null, string $name = ''): self
    {
        $handle = proc_open($command, [
            0 => ['file', '/dev/null', 'r'],
            1 => ['file', "$folder/{$name}output", 'w'],
            2 => ['file', "$folder/{$name}errors", 'a'],
        ], $pipes, $folder, $environment);
        if ($handle === false) {
            throw new \RuntimeException("{$command[0]} does not start");
        }

        return new self($handle);
    }

    public function signal(int $signal): void
    {
        proc_terminate($this->handle, $signal);
    }

    public function wait(): void
    {
        self::waitUntil(fn (): bool => !proc_get_status($this->handle)['running'], 'a program to end');
        proc_close($this->handle);
    }

    /**
     * @param callable(): bool $condition
     */
    public static function waitUntil(callable $condition, string $what): void
    {
        $until = microtime(true) + self::PATIENCE;
        while (!$condition()) {
            if (microtime(true) > $until) {
                throw new \RuntimeException("waited in vain for $what");
            }
            usleep(2000);
        }
    }

    /**
     * @param list<string> $settings of php.ini, as name=value
     *
     * @return list<string> as arguments
     */
    public static function options(array $settings): array
    {
        return array_merge(...array_map(static fn (string $setting): array => ['-d', $setting], $settings));
    }
}
