<?php

declare(strict_types=1);

namespace Deferd;

/**
 * Why a callback did not return, as "Class: message in file:line", cut to what a report can hold.
 *
 * @internal
 */
final class Failure
{
    /*
     * JSON makes at most six bytes out of one (\u0001): the three together fit a report's line of 8192 bytes.
     */
    private const WHAT = 200;
    private const MESSAGE = 700;
    private const FILE = 300;

    private const FATAL = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR;

    public static function of(\Throwable $error): string
    {
        return self::describe($error::class, $error->getMessage(), $error->getFile(), $error->getLine());
    }

    /**
     * The fatal error that PHP ended with, an uncaught exception included; null if there was none.
     */
    public static function fatalError(): ?\ErrorException
    {
        $error = error_get_last();
        if ($error === null || ($error['type'] & self::FATAL) === 0) {
            return null;
        }

        return new \ErrorException($error['message'], 0, $error['type'], $error['file'], $error['line']);
    }

    public static function ofFatalError(\ErrorException $error): string
    {
        return self::describe('Fatal error', $error->getMessage(), $error->getFile(), $error->getLine());
    }

    private static function describe(string $what, string $message, string $file, int $line): string
    {
        // The name of an anonymous class goes on with a null byte, its file and its line.
        $what = Text::clip(explode("\0", $what)[0], self::WHAT);
        $message = Text::clip($message, self::MESSAGE);
        $file = Text::tail($file, self::FILE);

        return "$what: $message in $file:$line";
    }
}
