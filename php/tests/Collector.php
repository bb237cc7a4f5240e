<?php

declare(strict_types=1);

namespace Deferd\Tests;

/**
 * Coverage of a program that a test starts: writes which lines of src it ran to a file in the folder that
 * DEFERD_COVERAGE names, as late as PHP calls anything: behind shutdown functions that register others, and behind
 * destructors. coverage.php adds all up.
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
        \pcov\start();
        self::$last = new self(self::LATER);
        self::atShutdown(self::LATER);
    }

    /**
     * Also for a test in which PHP calls neither.
     */
    public static function write(): void
    {
        if (self::$file !== '') {
            $source = dirname(__DIR__) . '/src';
            $files = [...glob("$source/*.php") ?: [], ...glob("$source/*/*.php") ?: []];
            // Each call tells what is new.
            /** @var array<string, array<int, int>> $new */
            $new = \pcov\collect(\pcov\inclusive, $files);
            self::$pieces[] = $new;
            file_put_contents(self::$file . '-' . posix_getpid(), serialize(self::$pieces));
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

    private static function atShutdown(int $later): void
    {
        register_shutdown_function(static function () use ($later): void {
            $later > 0 ? self::atShutdown($later - 1) : self::write();
        });
    }
}
