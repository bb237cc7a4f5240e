<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Deferd\Text;
use PHPUnit\Framework\TestCase;

final class TextTest extends TestCase
{
    public function testLeavesWhatFits(): void
    {
        $this->assertSame('', Text::clip('', 10));
        $this->assertSame('äöüäö', Text::clip('äöüäö', 10));
    }

    public function testCutsBetweenCharacters(): void
    {
        $this->assertSame('abcdefg…', Text::clip('abcdefghijk', 10));
        $this->assertSame('äöü…', Text::clip('äöüäöü', 10));
        foreach (['aäöüä', '日本語日本語', '🙂🙂🙂🙂'] as $text) {
            for ($bytes = 4; $bytes < strlen($text); $bytes++) {
                $clipped = Text::clip($text, $bytes);
                $this->assertSame(1, preg_match('//u', $clipped), "$text in $bytes bytes");
                $this->assertLessThanOrEqual($bytes, strlen($clipped));
                $this->assertGreaterThan($bytes - 4, strlen($clipped));
            }
        }
    }

    public function testKeepsTheEnd(): void
    {
        $this->assertSame('/a/b.php:1', Text::tail('/a/b.php:1', 10));
        $this->assertSame('…b.php:1', Text::tail('/srv/a/b.php:1', 10));
        foreach (['aäöüäaäöüä', '日本語日本語', '🙂🙂🙂🙂'] as $text) {
            for ($bytes = 7; $bytes < strlen($text); $bytes++) {
                $clipped = Text::tail($text, $bytes);
                $this->assertSame(1, preg_match('//u', $clipped), "$text in $bytes bytes");
                $this->assertTrue(str_ends_with($text, substr($clipped, strlen('…'))));
                $this->assertLessThanOrEqual($bytes, strlen($clipped));
                $this->assertGreaterThan($bytes - 4, strlen($clipped));
            }
        }
    }

    public function testCutsBytesThatAreNoCharacters(): void
    {
        $this->assertLessThanOrEqual(50, strlen(Text::clip(str_repeat("\x80", 100), 50)));
    }
}
