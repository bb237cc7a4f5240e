<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Deferd\Tests\Sapi\Cli;
use Deferd\Tests\Sapi\Sapi;

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
     * @param string       $headers of the response; empty on the command line
     * @param list<string> $notes
     */
    private function __construct(
        public readonly string $headers,
        public readonly string $output,
        public readonly array $notes,
        public readonly string $log
    ) {
    }

    /**
     * @param list<string> $settings of php.ini, as name=value
     */
    public static function run(string $code, array $settings = [], Sapi $sapi = new Cli()): self
    {
        return self::execute('', $code, $settings, $sapi);
    }

    /**
     * As run() on the command line, with deferd in front: the output goes through the channel that has a token.
     *
     * @param list<string> $settings of php.ini, as name=value
     */
    public static function runBehindDeferd(string $code, array $settings = [], ?string $stop = null): self
    {
        $channel = '(new ReflectionProperty(Deferd\Channel::class, "current"))'
            . '->setValue(null, new Deferd\Channel("' . self::TOKEN . '", ' . var_export($stop, true) . '));';

        return self::execute($channel, $code, $settings, new Cli());
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
     * @return list<array{event: string, task?: int, tasks?: list<string>, error?: string, why?: string,
     *                    ratio?: float, text?: string}>
     */
    public function reports(): array
    {
        return array_map(static function (string $line): array {
            $report = json_decode($line, true);
            if (!is_array($report)) {
                return ['event' => 'stray'];
            }
            unset($report['ms'], $report['pid']);

            /** @var array{event: string, task?: int, tasks?: list<string>, error?: string, why?: string} $report */
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
     * The reports in short, one a line: "begin mail, time", "start 0", "skip 1: stopped".
     *
     * @return list<string>
     */
    public function story(): array
    {
        return array_map(static fn (array $report): string => $report['event'] . match (true) {
            isset($report['tasks']) => rtrim(' ' . implode(', ', $report['tasks'])),
            isset($report['why']) => ' ' . ($report['task'] ?? '') . ": {$report['why']}",
            isset($report['task']) => " {$report['task']}",
            default => '',
        }, $this->reports());
    }

    /**
     * @param list<string> $settings
     */
    private static function execute(string $prelude, string $code, array $settings, Sapi $sapi): self
    {
        $folder = sys_get_temp_dir() . '/defer-test-' . bin2hex(random_bytes(8));
        mkdir($folder, 0700);
        try {
            file_put_contents("$folder/script.php", self::program($folder, $prelude, $code));
            $answer = $sapi->run($folder, [
                "error_log=$folder/log",
                'log_errors=1',
                'display_errors=0',
                'session.save_handler=files',
                "session.save_path=$folder",
                'session.use_cookies=0',
                'session.cache_limiter=',
                'pcov.directory=' . dirname(__DIR__) . '/src',
                ...$settings,
            ]);
            [$headers, $body] = $sapi instanceof Cli ? ['', $answer] : explode("\r\n\r\n", $answer, 2) + ['', ''];

            return new self(
                $headers,
                $body,
                preg_split('/\n/', self::read("$folder/notes"), -1, PREG_SPLIT_NO_EMPTY) ?: [],
                self::read("$folder/log") . self::read("$folder/errors")
            );
        } finally {
            array_map('unlink', glob("$folder/*") ?: []);
            rmdir($folder);
        }
    }

    private static function program(string $folder, string $prelude, string $code): string
    {
        $coverage = getenv('DEFERD_COVERAGE');
        $collector = $coverage === false || $coverage === '' ? '' : 'require ' . var_export(__DIR__, true)
            . ' . "/Collector.php"; Deferd\Tests\Collector::start(' . var_export($coverage, true) . ');';
        $autoload = var_export(dirname(__DIR__) . '/autoload.php', true);
        $vendor = var_export(dirname(__DIR__) . "/vendor/autoload.php", true);
        $notes = var_export("$folder/notes", true);

        return <<<PHP
            <?php
            $collector
            require $autoload;
            const VENDOR = $vendor;
            function note(string \$text): void { file_put_contents($notes, \$text . "\n", FILE_APPEND); }
            $prelude
            \$defer = new Deferd\Defer();
            $code
            PHP;
    }

    private static function read(string $file): string
    {
        return is_file($file) ? (string) file_get_contents($file) : '';
    }
}
