<?php

declare(strict_types=1);

namespace Deferd\Tests;

/**
 * Coverage of a program that a test starts: writes which lines of src it ran, or with Xdebug which branches, to a file
 * in the folder that DEFERD_COVERAGE names, as late as PHP calls anything: behind shutdown functions that register
 * others, and behind destructors. coverage.php and branches.php add all up.
 */
final class Collector
{
    /** As many may come after us: shutdown functions that register another, destructors that construct. */
    private const LATER = 8;

    /** @phpstan-ignore property.onlyWritten (it keeps the object from being destructed) */
    private static ?self $last = null;
    private static string $file = '';

    /** @var list<array<string, array<int, int>>> */
    private static array $pieces = [];

    private function __construct(private readonly int $later)
    {
    }

    public static function start(string $folder): void
    {
        self::$file = "$folder/" . bin2hex(random_bytes(8));
        if (extension_loaded('xdebug')) {
            xdebug_set_filter(XDEBUG_FILTER_CODE_COVERAGE, XDEBUG_PATH_INCLUDE, [self::source()]);
            xdebug_start_code_coverage(XDEBUG_CC_UNUSED | XDEBUG_CC_DEAD_CODE | XDEBUG_CC_BRANCH_CHECK);
        } else {
            \pcov\start();
        }
        self::$last = new self(self::LATER);
        self::atShutdown(self::LATER);
    }

    /**
     * Also for a test in which PHP calls neither.
     */
    public static function write(): void
    {
        if (self::$file !== '') {
            $covered = extension_loaded('xdebug') ? self::branches() : self::lines();
            file_put_contents(self::$file . '-' . posix_getpid(), serialize($covered));
        }
    }

    public function __destruct()
    {
        if ($this->later > 0) {
            self::$last = new self($this->later - 1);
        } else {
            self::write();
        }
    }

    /**
     * @return list<array<string, array<int, int>>> by file and line
     */
    private static function lines(): array
    {
        $files = [...glob(self::source() . '*.php') ?: [], ...glob(self::source() . '*/*.php') ?: []];
        // Each call tells what is new.
        /** @var array<string, array<int, int>> $new */
        $new = \pcov\collect(\pcov\inclusive, $files);
        self::$pieces[] = $new;

        return self::$pieces;
    }

    /**
     * @return array<string, array<string, array<int, array<string, mixed>>>> by file, function and opcode
     */
    private static function branches(): array
    {
        $branches = [];
        // Xdebug tells of all files if its filter came after them, and has paths as well, which are many.
        /** @var array{functions: array<string, array{branches: array<int, array<string, mixed>>}>} $covered */
        foreach (xdebug_get_code_coverage() as $file => $covered) {
            assert(is_string($file));
            if (str_starts_with($file, self::source())) {
                $branches[$file] = array_map(static fn (array $all): array => $all['branches'], $covered['functions']);
            }
        }

        return $branches;
    }

    private static function source(): string
    {
        return dirname(__DIR__) . '/src/';
    }

    private static function atShutdown(int $later): void
    {
        register_shutdown_function(static function () use ($later): void {
            $later > 0 ? self::atShutdown($later - 1) : self::write();
        });
    }
}
