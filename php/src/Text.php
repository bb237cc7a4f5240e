<?php

declare(strict_types=1);

namespace Deferd;

/**
 * Text from elsewhere, made to fit.
 *
 * @internal
 */
final class Text
{
    /**
     * At most so many bytes, and no UTF-8 character cut in two.
     */
    public static function clip(string $text, int $bytes): string
    {
        if (strlen($text) <= $bytes) {
            return $text;
        }
        $end = $bytes - strlen('…');
        for ($back = 0; $back < 3 && (ord($text[$end]) & 0xC0) === 0x80; $back++) {
            $end--;
        }

        return substr($text, 0, $end) . '…';
    }

    /**
     * The same from the end: the last bytes of a path or a class say more than its first.
     */
    public static function tail(string $text, int $bytes): string
    {
        if (strlen($text) <= $bytes) {
            return $text;
        }
        $start = strlen($text) - $bytes + strlen('…');
        for ($on = 0; $on < 3 && (ord($text[$start]) & 0xC0) === 0x80; $on++) {
            $start++;
        }

        return '…' . substr($text, $start);
    }
}
