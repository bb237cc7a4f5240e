<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Deferd\Defer;
use Deferd\Task;
use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

/**
 * The handle that defer() returns, and what Defer says of what waits.
 */
final class TaskTest extends TestCase
{
    public function testADerivedNameKeepsItsEnd(): void
    {
        $method = str_repeat('longer', 30);
        $callback = [eval("return new class { public function $method(): void {} };"), $method];
        $this->assertTrue(is_callable($callback));
        $task = new Task($callback);
        $this->assertSame(128, strlen($task->name()));
        $this->assertStringStartsWith('…', $task->name());
        $this->assertStringEndsWith('longer', $task->name());
    }

    public function testTellsAndTakesAName(): void
    {
        $defer = new Defer();
        $task = $defer->defer('time', 'first');
        $this->assertSame('first', $task->name());
        $this->assertSame($task, $task->name('second'));
        $this->assertSame('second', $task->name());
        $this->assertSame(['second'], $defer->names());
        $task->name('');
        $this->assertSame('second', $task->name());
        $task->name(str_repeat('x', 1000));
        $this->assertSame(128, strlen($task->name()));
        $defer->forget($task->name());
    }

    public function testCountsAndNamesWhatWaits(): void
    {
        $defer = new Defer();
        $this->assertCount(0, $defer);
        $this->assertSame([], $defer->names());
        $defer->defer('time', 'a');
        $defer->defer('time', 'b');
        $defer->defer('time', 'a');
        $this->assertCount(3, $defer);
        $this->assertSame(['a', 'b', 'a'], $defer->names());
        $this->assertFalse($defer->isEmpty());
        $defer->forget('a');
        $this->assertSame(['b'], $defer->names());
        $defer->forget('unknown');
        $defer->run();
        $this->assertCount(0, $defer);
        $this->assertTrue($defer->isEmpty());
        $defer->forget('b');
    }

    public function testDoesNotRunWhatWasTakenOut(): void
    {
        $ran = new \ArrayObject();
        $note = static fn (string $what): \Closure => static fn () => $ran->append($what);
        $defer = new Defer();
        $defer->defer($note('cancelled'))->cancel();
        $defer->defer($note('forgotten'), 'forgotten');
        $defer->forget('forgotten');
        $defer->defer($note('one of two'), 'twice');
        $defer->defer($note('other of two'), 'twice');
        $defer->defer($note('replaced'), 'mail');
        $defer->defer($note('mail'), 'mail', replace: true);
        $done = $defer->defer($note('last'));
        $defer->run();
        $done->cancel();

        $this->assertSame(['one of two', 'other of two', 'mail', 'last'], $ran->getArrayCopy());
    }

    public function testALongNameIsForgottenByWhatItWasGiven(): void
    {
        $long = str_repeat('n', 200);
        foreach ([new Defer(), Defer::fake()] as $defer) {
            $defer->defer('time', $long);
            $defer->forget("{$long}n");
            $this->assertCount(0, $defer);
        }
    }

    public function testANewNameIsTheOneToForgetAndReplaceBy(): void
    {
        $defer = new Defer();
        $defer->defer('time', 'old')->name('new');
        $defer->forget('old');
        $this->assertSame(['new'], $defer->names());
        $defer->defer('time', 'new', replace: true);
        $this->assertCount(1, $defer);
        $defer->forget('new');
        $this->assertSame([], $defer->names());
    }

    public function testFreesWhatOnlyACancelledCallbackHeld(): void
    {
        $held = new \stdClass();
        $seen = \WeakReference::create($held);
        $defer = new Defer();
        $task = $defer->defer(static fn () => $held);
        unset($held);
        $this->assertNotNull($seen->get());
        $task->cancel();
        $this->assertNull($seen->get());
    }

    public function testReportsWhatWasTakenOutAfterItWasAnnounced(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $gone = $defer->defer('time', 'never announced');
            $gone->cancel();
            $defer->defer(function () use ($defer, &$second): void {
                $second->cancel();
                $second->cancel();
                $defer->defer(fn () => note('third'), 'third', replace: true);
                $defer->forget('fourth');
            }, 'first');
            $second = $defer->defer(fn () => note('second'), 'second');
            $defer->defer(fn () => note('old third'), 'third');
            $defer->defer(fn () => note('fourth'), 'fourth');
            $defer->run();
            PHP);

        $this->assertSame(['third'], $script->notes);
        $this->assertSame([
            'begin first, second, third, fourth',
            'start 0',
            'skip 1: cancelled',
            'skip 2: replaced',
            'skip 3: cancelled',
            'done 0',
            'add third',
            'start 4',
            'done 4',
            'end',
        ], $script->story());
    }

    /**
     * @param string $callback in PHP
     */
    #[DataProvider('parameters')]
    public function testACallbackThatWantsItsTaskIsGivenIt(string $callback, string $got): void
    {
        $script = Script::run(<<<PHP
            final class Taker
            {
                public function with(Deferd\Task \$task): void { note(get_debug_type(\$task)); }
                public function without(bool \$full = false): void { note(get_debug_type(\$full)); }
                public function __invoke(?Deferd\Task \$task = null): void { note(get_debug_type(\$task)); }
                public function __call(string \$name, array \$all): void { note('call of ' . count(\$all)); }
                public static function still(Deferd\Task|string \$task = ''): void { note(get_debug_type(\$task)); }
            }
            function untyped(\$task): void { note(get_debug_type(\$task)); }
            \$defer->defer($callback);
            PHP);

        $this->assertSame([$got], $script->notes, $script->log);
    }

    /**
     * @return array<string, array{string, string}>
     */
    public static function parameters(): array
    {
        return [
            'closure' => ['fn (Deferd\Task $task) => note(get_debug_type($task))', Task::class],
            'closure without' => ['fn () => note((string) func_num_args())', '0'],
            'method' => ['[new Taker(), "with"]', Task::class],
            'method with a default of its own' => ['(new Taker())->without(...)', 'bool'],
            'nullable' => ['new Taker()', Task::class],
            'union' => ['"Taker::still"', Task::class],
            'intersection with a default' => [
                'fn (Countable&Traversable $x = new ArrayObject()) => note("own")',
                'own',
            ],
            'magic' => ['[new Taker(), "magic"]', 'call of 0'],
            'function, untyped and required' => ['"untyped"', Task::class],
            'untyped with a default' => ['fn ($x = 1) => note(get_debug_type($x))', 'int'],
            'variadic' => ['fn (...$all) => note((string) count($all))', '0'],
        ];
    }

    public function testCallsItsCallbackOnce(): void
    {
        $calls = 0;
        $task = new Task(static function () use (&$calls): void {
            $calls++;
        });
        $task->run();
        $task->run();
        $this->assertSame(1, $calls);
    }

    public function testPutsPhpsTimeLimitBack(): void
    {
        $script = Script::run(<<<'PHP'
            set_time_limit(77);
            $limit = fn () => note(ini_get('max_execution_time'));
            $defer->defer($limit)->timeLimit(2.5);
            $defer->defer($limit);
            $defer->defer(function (Deferd\Task $task) use ($limit): void {
                $task->timeLimit(10)->timeLimit(20);
                $limit();
                throw new Exception('and out');
            });
            $defer->defer($limit);
            $defer->defer($limit)->timeLimit(0);
            $defer->defer($limit)->timeLimit(INF);
            $defer->defer($limit)->timeLimit(30)->timeLimit(40);
            $defer->run();
            $limit();
            PHP);

        $this->assertSame(['3', '77', '20', '77', '0', '2147483647', '40', '77'], $script->notes);
    }

    public function testStopsAtItsTimeLimitOnTheWallClock(): void
    {
        $script = Script::run(<<<'PHP'
            $defer->defer(function (Deferd\Task $task): void {
                note($task->stopped() ? 'stopped' : 'goes on');
                usleep(60_000);
                note($task->stopped() ? 'stopped' : 'goes on');
                $task->timeLimit(60);
                note($task->stopped() ? 'stopped' : 'goes on');
            })->timeLimit(0.05);
            $defer->defer(function (Deferd\Task $task): void {
                usleep(1000);
                note($task->stopped() ? 'stopped' : 'goes on');
            })->timeLimit(0);
            PHP);

        $this->assertSame(['goes on', 'stopped', 'goes on', 'goes on'], $script->notes);
    }

    public function testDoesWithoutSetTimeLimit(): void
    {
        $script = Script::run(
            '$defer->defer(fn () => note("ran"))->timeLimit(5);',
            ['disable_functions=set_time_limit']
        );

        $this->assertSame(['ran'], $script->notes);
        $this->assertSame('', $script->log);
    }

    public function testRefusesATimeLimitBelowZero(): void
    {
        $this->expectException(\ValueError::class);
        (new Task('time'))->timeLimit(-1);
    }

    public function testIsStoppedWhenAnOperatorSaysSo(): void
    {
        $stop = sys_get_temp_dir() . '/deferd-stop-' . bin2hex(random_bytes(8));
        $file = var_export($stop, true);
        try {
            $script = Script::runBehindDeferd(<<<PHP
                \$defer->defer(function (Deferd\Task \$task): void {
                    note(\$task->stopped() ? 'stopped' : 'goes on');
                    touch($file);
                    note(\$task->stopped() ? 'stopped' : 'goes on');
                });
                PHP, [], $stop);
        } finally {
            unlink($stop);
        }

        $this->assertSame(['goes on', 'stopped'], $script->notes);
    }

    public function testSkipsAfterAnErrorResponseIfDeferWasToldTo(): void
    {
        $code = <<<'PHP'
            $defer->defer(fn () => note('default'), 'default');
            $careful = new Deferd\Defer(skipOnError: true);
            $careful->defer(fn () => note('skipped'), 'careful');
            $careful->defer(fn () => note('always'), 'always')->always();
            PHP;

        $this->assertSame(['default', 'always'], Script::runBehindDeferd("$code http_response_code(400);")->notes);
        $this->assertSame(['default', 'skipped', 'always'], Script::run("$code http_response_code(399);")->notes);
        $this->assertSame(['default', 'skipped', 'always'], Script::run($code)->notes);
        $script = Script::runBehindDeferd("$code http_response_code(500);");
        $this->assertContains('skip 1: status 500', $script->story());
        $this->assertSame(['default', 'always'], $script->notes);
    }
}
