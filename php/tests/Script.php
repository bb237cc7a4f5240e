<?php

declare(strict_types=1);

namespace Deferd\Tests;

/**
 * A PHP program run by a real php, with `$defer` and `note()` at hand, and what became of it.
 *
 * What a callback does is seen in the notes: they go to a file, so nothing that becomes of the output can hide
 * or fake them.
 */
final class Script
{
    public const TOKEN = '0123456789abcdef0123456789abcdef';
    public const MARKER = "\x1EDEFERD/1 END " . self::TOKEN . "\n";

    /**
     * @param list<string> $notes
     */
    private function __construct(
        public readonly string $output,
        public readonly array $notes,
        public readonly string $log
    ) {
    }

    /**
     * @param list<string> $settings of php.ini, as name=value
     */
    public static function run(string $code, array $settings = []): self
    {
        return self::execute('', $code, $settings);
    }

    /**
     * As run(), with deferd in front: the output goes through the channel that has a token.
     *
     * @param list<string> $settings of php.ini, as name=value
     */
    public static function runBehindDeferd(string $code, array $settings = [], ?string $stop = null): self
    {
        $channel = '(new ReflectionProperty(Deferd\Channel::class, "current"))'
            . '->setValue(null, new Deferd\Channel("' . self::TOKEN . '", ' . var_export($stop, true) . '));';

        return self::execute($channel, $code, $settings);
    }

    /**
     * What the client gets: all output before the marker.
     */
    public function response(): string
    {
        return explode(self::MARKER, $this->output, 2)[0];
    }

    /**
     * The lines behind the marker.
     *
     * @return list<string>
     */
    public function lines(): array
    {
        $behind = explode(self::MARKER, $this->output, 2)[1] ?? '';

        return $behind === '' ? [] : explode("\n", rtrim($behind, "\n"));
    }

    /**
     * The reports behind the marker, without times and pid. A line that is none has the event "stray"; an empty line
     * says nothing, to deferd neither.
     *
     * @return list<array{event: string, task?: int, tasks?: list<string>, error?: string}>
     */
    public function reports(): array
    {
        return array_map(static function (string $line): array {
            $report = json_decode($line, true);
            if (!is_array($report)) {
                return ['event' => 'stray'];
            }
            unset($report['ms'], $report['pid']);

            /** @var array{event: string, task?: int, tasks?: list<string>, error?: string} $report */
            return $report;
        }, array_values(array_filter($this->lines(), static fn (string $line): bool => $line !== '')));
    }

    /**
     * @return list<string>
     */
    public function events(): array
    {
        return array_column($this->reports(), 'event');
    }

    /**
     * @param list<string> $settings
     */
    private static function execute(string $prelude, string $code, array $settings): self
    {
        $folder = sys_get_temp_dir() . '/defer-test-' . bin2hex(random_bytes(8));
        mkdir($folder, 0700);
        try {
            $autoload = var_export(dirname(__DIR__) . '/autoload.php', true);
            $notes = var_export("$folder/notes", true);
            file_put_contents("$folder/script.php", <<<PHP
                <?php
                require $autoload;
                function note(string \$text): void { file_put_contents($notes, \$text . "\n", FILE_APPEND); }
                $prelude
                \$defer = new Deferd\Defer();
                $code
                PHP);
            $command = [PHP_BINARY];
            $defaults = [
                "error_log=$folder/log",
                'log_errors=1',
                'display_errors=0',
                'session.save_handler=files',
                "session.save_path=$folder",
                'session.use_cookies=0',
                'session.cache_limiter=',
            ];
            foreach ([...$defaults, ...$settings] as $setting) {
                array_push($command, '-d', $setting);
            }
            $process = proc_open(
                [...$command, "$folder/script.php"],
                [1 => ['file', "$folder/output", 'w'], 2 => ['file', "$folder/errors", 'w']],
                $pipes
            );
            if ($process === false) {
                throw new \RuntimeException('php does not start');
            }
            proc_close($process);
            $read = static fn (string $name): string =>
                is_file("$folder/$name") ? (string) file_get_contents("$folder/$name") : '';

            return new self(
                $read('output'),
                preg_split('/\n/', $read('notes'), -1, PREG_SPLIT_NO_EMPTY) ?: [],
                $read('log') . $read('errors')
            );
        } finally {
            array_map('unlink', glob("$folder/*") ?: []);
            rmdir($folder);
        }
    }
}
