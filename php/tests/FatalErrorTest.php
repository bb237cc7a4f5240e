<?php

declare(strict_types=1);

namespace Deferd\Tests;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

/**
 * A fatal error in a callback is the end of the phase: the rest is not run, and accounted for by name.
 */
final class FatalErrorTest extends TestCase
{
    private const TASKS = <<<'PHP'
        $other = new Deferd\Defer();
        $other->defer(fn () => note('other'), 'other');
        $defer->defer('time', 'first');
        $defer->defer($fatal, 'fatal');
        $defer->defer(fn () => note('next'), 'next');
        PHP;

    /**
     * @param string $fatal in PHP
     */
    #[DataProvider('fatalErrors')]
    public function testTheRestIsSkippedWhenTheMainCodeCalledRun(string $fatal, string $error): void
    {
        $script = Script::runBehindDeferd(
            "echo 'page'; \$fatal = function () { $fatal }; " . self::TASKS . ' $defer->run();',
            ['memory_limit=32M']
        );

        $this->assertSame([], $script->notes);
        $this->assertSame('page', $script->response());
        $this->assertSame([
            'begin first, fatal, next',
            'start 0',
            'done 0',
            'start 1',
            'fail 1',
            'add other',
            'skip 3: not run: fatal error in fatal',
            'skip 2: not run: fatal error in fatal',
            'end',
        ], $script->story());
        $this->assertStringContainsString("Fatal error: $error", $script->reports()[4]['error'] ?? '');
        $this->assertStringContainsString("deferd: deferred fatal failed: Fatal error: $error", $script->log);
        $this->assertStringContainsString('deferd: deferred next not run: fatal error in fatal', $script->log);
        $this->assertStringContainsString('deferd: deferred other not run: fatal error in fatal', $script->log);
    }

    /**
     * @return array<string, array{string, string}>
     */
    public static function fatalErrors(): array
    {
        return [
            'out of memory' => ['str_repeat("x", 1 << 28);', 'Allowed memory size'],
            'out of memory, bit by bit' => [
                'global $list; $list = new SplDoublyLinkedList(); while (true) { $list->push(null); }',
                'Allowed memory size',
            ],
        ] + self::fatalErrorsButMemory();
    }

    /**
     * @return array<string, array{string, string}>
     */
    public static function fatalErrorsButMemory(): array
    {
        return [
            'time limit' => ['set_time_limit(1); while (true);', 'Maximum execution time of 1 second exceeded'],
            'user error' => ['trigger_error("boo", E_USER_ERROR);', 'boo'],
            'compile error' => ['eval("class A implements Countable {}");', 'Class A contains 1 abstract method'],
        ];
    }

    /**
     * PHP calls no shutdown function then, but still our output callback.
     *
     * @param string $fatal in PHP
     */
    #[DataProvider('fatalErrorsButMemory')]
    public function testTheRestIsSkippedAtTheEndOfTheRequest(string $fatal, string $error): void
    {
        $script = Script::runBehindDeferd("\$fatal = function () { ob_start(); echo 'x'; $fatal }; " . self::TASKS);

        $this->assertSame([], array_diff($script->notes, ['other']));
        $this->assertSame([
            'begin other',
            'add first, fatal, next',
            'start 0',
            'done 0',
            'start 1',
            'done 1',
            'start 2',
            'fail 2',
            'skip 3: not run: fatal error in fatal',
            'end',
        ], $script->story());
        $this->assertStringContainsString("deferd: deferred fatal failed: Fatal error: $error", $script->log);
        $this->assertStringContainsString('deferd: deferred next not run: fatal error in fatal', $script->log);
    }

    public function testMemoryThatRunsOutAtTheEndOfTheRequestIsLeftToDeferd(): void
    {
        $script = Script::runBehindDeferd(
            '$defer->defer(fn () => str_repeat("x", 1 << 28), "big"); $defer->defer(fn () => note("next"), "next");',
            ['memory_limit=32M']
        );

        $this->assertSame([], $script->notes);
        $this->assertSame(['begin big, next', 'start 0'], $script->story());
    }

    public function testWithoutDeferdTheErrorLogHasTheNames(): void
    {
        // PHP ends the buffer of the test last, behind ours: coverage is written there.
        $script = Script::run(<<<'PHP'
            ob_start(function (string $output): string {
                class_exists(Deferd\Tests\Collector::class, false) && Deferd\Tests\Collector::write();
                return $output;
            }, 0, 0);
            $defer->defer(fn () => trigger_error('boo', E_USER_ERROR), 'fatal');
            $defer->defer(fn () => note('next'), 'next');
            PHP);

        $this->assertSame([], $script->notes);
        $this->assertSame('', $script->output);
        $this->assertStringContainsString('deferd: deferred fatal failed: Fatal error: boo', $script->log);
        $this->assertStringContainsString('deferd: deferred next not run: fatal error in fatal', $script->log);
    }

    public function testAFatalErrorOfTheMainCodeIsNotTakenForTheCallbacks(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(function (): void { while (ob_get_level() > 0) { ob_end_clean(); } note('first'); });
            $defer->defer(fn () => note('second'));
            no_such_function();
            PHP);

        $this->assertSame(['first', 'second'], $script->notes);
        $this->assertSame(['begin', 'start', 'done', 'start', 'done', 'end'], $script->events());
    }

    public function testTheLoggerHearsOfAllByName(): void
    {
        $script = Script::run(<<<'PHP'
            require VENDOR;
            $defer = new Deferd\Defer(new class extends Psr\Log\AbstractLogger {
                public function log($level, string|Stringable $message, array $context = []): void
                {
                    note("{$context['task']} {$context['what']}");
                }
            }, fn (Throwable $error, Deferd\Task $task) => note($task->name() . ': ' . $error::class));
            $defer->defer(fn () => trigger_error('boo', E_USER_ERROR), 'fatal');
            $defer->defer('time', 'next');
            $defer->run();
            PHP);

        $this->assertCount(3, $script->notes);
        $this->assertStringStartsWith('fatal failed: Fatal error: boo in ', $script->notes[0]);
        $this->assertSame('fatal: ErrorException', $script->notes[1]);
        $this->assertSame('next not run: fatal error in fatal', $script->notes[2]);
    }
}
