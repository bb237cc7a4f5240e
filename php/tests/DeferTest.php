<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Deferd\Defer;
use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\Attributes\Group;
use PHPUnit\Framework\TestCase;

/**
 * Without deferd: a program of PHP's command line, as an application's own tests are.
 */
final class DeferTest extends TestCase
{
    public function testRunsInOrderAndOnce(): void
    {
        $ran = [];
        $defer = new Defer();
        $defer->defer(function () use (&$ran): void {
            $ran[] = 'first';
        });
        $defer->defer(function () use (&$ran): void {
            $ran[] = 'second';
        });
        $this->assertSame([], $ran);
        $defer->run();
        $defer->run();
        $this->assertSame(['first', 'second'], $ran);
    }

    public function testIsEmptyUntilSomethingIsDeferredAndAfterItRan(): void
    {
        $defer = new Defer();
        $this->assertTrue($defer->isEmpty());
        $seen = null;
        $defer->defer(function () use ($defer, &$seen): void {
            $seen = $defer->isEmpty();
        });
        $defer->defer('time');
        $this->assertFalse($defer->isEmpty());
        $defer->run();
        $this->assertFalse($seen, 'one more waits while the first runs');
        $this->assertTrue($defer->isEmpty());
    }

    public function testLeavesTheBuffersOfATestAloneAndPrintsNothing(): void
    {
        $level = ob_get_level();
        $this->expectOutputString('page');
        echo 'page';
        $defer = new Defer();
        $defer->defer(static function (): void {
            echo 'noise';
        });
        $defer->run();
        $this->assertSame($level, ob_get_level());
    }

    public function testFinishResponseTellsThatAConsoleHasNoClient(): void
    {
        $this->assertFalse((new Defer())->finishResponse());
    }

    public function testRefusesWhatCannotBeCalled(): void
    {
        $this->expectException(\TypeError::class);
        /** @phpstan-ignore-next-line */
        (new Defer())->defer('no such function');
    }

    #[DataProvider('ends')]
    public function testRunsByItselfHoweverTheMainCodeEnds(string $end, string $output): void
    {
        $script = Script::run(
            '$defer->defer(fn () => note("one")); $defer->defer(fn () => note("two")); echo "page";' . $end,
            ['memory_limit=32M']
        );

        $this->assertSame(['one', 'two'], $script->notes);
        $this->assertSame($output, $script->output);
    }

    /**
     * @return array<string, array{string, string}>
     */
    public static function ends(): array
    {
        return [
            'in the last line' => ['', 'page'],
            'with exit' => ['exit;', 'page'],
            'with exit and a text' => ['exit(" and bye");', 'page and bye'],
            'with die in a function' => ['(function () { try { die(1); } finally { } })();', 'page'],
            'with an uncaught exception' => ['throw new Exception("boo");', 'page'],
            'with an uncaught exception in a buffer' => ['ob_start(); echo "!"; throw new Exception("boo");', 'page!'],
            'with an error' => ['no_such_function();', 'page'],
            'with a fatal error' => ['str_repeat("x", 1 << 28);', 'page'],
            'with a compile error' => ['eval("abstract final class A {}");', 'page'],
            'in a shutdown function that throws' => [
                'register_shutdown_function(function () { throw new Exception("boo"); });',
                'page',
            ],
            'in a shutdown function that exits' => ['register_shutdown_function(fn () => exit(" bye"));', 'page bye'],
        ];
    }

    public function testComesAfterTheOutputOfShutdownFunctionsAndBuffers(): void
    {
        $script = Script::run(<<<'PHP'
            $seen = '';
            $watch = function (string $output) use (&$seen): string { $seen .= $output; return $output; };
            ob_start($watch);
            $defer->defer(function () use (&$seen): void { note("after: $seen"); });
            register_shutdown_function(function (): void { echo ' shutdown'; });
            echo 'page';
            PHP);

        $this->assertSame(['after: page shutdown'], $script->notes);
        $this->assertSame('page shutdown', $script->output);
    }

    public function testRunsWhatIsDeferredDuringTheShutdown(): void
    {
        $script = Script::run(<<<'PHP'
            final class Late
            {
                public static ?Late $one = null;
                public function __construct(private Deferd\Defer $defer) {}
                public function __destruct() { $this->defer->defer(fn () => note('destructor')); }
            }
            Late::$one = new Late($defer);
            register_shutdown_function(function () use ($defer): void {
                $defer->defer(fn () => note('shutdown function'));
            });
            PHP);

        $this->assertSame(['shutdown function', 'destructor'], $script->notes);
    }

    public function testRunsWhatNobodyHoldsAnyMore(): void
    {
        $this->assertSame(['ran'], Script::run('(new Deferd\Defer())->defer(fn () => note("ran"));')->notes);
    }

    public function testDoesNothingWhenNothingIsDeferred(): void
    {
        $script = Script::run(<<<'PHP'
            session_start();
            ob_start();
            echo 'page';
            $defer->run();
            note(ob_get_level() === 1 && session_status() === PHP_SESSION_ACTIVE ? 'untouched' : 'touched');
            PHP);

        $this->assertSame(['untouched'], $script->notes);
        $this->assertSame('page', $script->output);
    }

    #[DataProvider('ways')]
    public function testLogsACallbackThatThrowsAndRunsTheNext(string $way): void
    {
        $script = Script::run(<<<'PHP'
            $defer->defer(fn () => throw new DomainException("no\nluck"), 'mail');
            $defer->defer(fn () => intdiv(1, 0));
            $defer->defer(fn () => note('next'));
            PHP . "\n$way");

        $this->assertSame(['next'], $script->notes);
        $this->assertMatchesRegularExpression(
            '~deferd: deferred mail failed: DomainException: no luck in /.+/script\.php:\d+\n~',
            $script->log
        );
        $this->assertStringContainsString('DivisionByZeroError: Division by zero', $script->log);
    }

    #[DataProvider('ways')]
    public function testRunsTheNextAfterACallbackThatExits(string $way): void
    {
        $script = Script::run(<<<'PHP'
            $defer->defer(fn () => exit('noise'), 'exits');
            $defer->defer(function (): void { ob_start(); echo 'noise'; die(1); }, 'dies');
            $defer->defer(fn () => note('next'));
            PHP . "\n$way");

        $this->assertSame(['next'], $script->notes);
        $this->assertSame('', $script->output);
        $this->assertStringContainsString('deferred exits failed: exit', $script->log);
        $this->assertStringContainsString('deferred dies failed: exit', $script->log);
    }

    #[DataProvider('ways')]
    public function testPrintsNothingOfACallback(string $way): void
    {
        $script = Script::run(<<<'PHP'
            echo 'page';
            $defer->defer(function (): void {
                echo 'noise', $undefined;
                trigger_error('noise', E_USER_WARNING);
                ob_start();
                echo 'noise';
                ob_end_flush();
                ob_start(fn (string $output): string => "[$output]");
                echo 'noise';
                note('ran');
            });
            $defer->defer(function (): void { flush(); echo 'noise'; ob_end_flush(); });
            PHP . "\n$way", ['display_errors=1', 'html_errors=0']);

        $this->assertSame(['ran'], $script->notes);
        $this->assertSame('page', $script->output);
    }

    /**
     * @return array<string, array{string}>
     */
    public static function ways(): array
    {
        return ['by run()' => ['$defer->run();'], 'by itself' => ['']];
    }

    public function testACallbackThatRemovesAllBuffersComesBack(): void
    {
        $script = Script::run(<<<'PHP'
            $defer->defer(function (): void { while (ob_get_level() > 0) { ob_end_clean(); } note('back'); });
            $defer->defer(function (): void { echo 'noise'; note('next'); });
            $defer->run();
            PHP);

        $this->assertSame(['back', 'next'], $script->notes);
        $this->assertSame('', $script->output);
    }

    /**
     * Ten thousand take a fraction of a second; with time that grows as their square, ten seconds and more.
     *
     * @param string $code in PHP
     */
    #[DataProvider('crowds')]
    #[Group('not-with-xdebug')]
    public function testManyCallbacksTakeNoMoreTimeEach(string $code): void
    {
        $script = Script::run(
            "\$ran = 0; \$callback = function () use (&\$ran): void { \$ran++; };"
            . "for (\$i = 0; \$i < 10_000; \$i++) { $code }"
            . '$last = new Deferd\Defer(); $last->defer(function () use (&$ran): void { note("$ran"); });',
            ['max_execution_time=4']
        );
        $this->assertSame(['10000'], $script->notes);
    }

    /**
     * @return array<string, array{string}>
     */
    public static function crowds(): array
    {
        return [
            'of one Defer' => ['$defer->defer($callback);'],
            'that replace none of their name' => ['$defer->defer($callback, "cart $i", replace: true);'],
            'of a Defer each' => ['(new Deferd\Defer())->defer($callback);'],
        ];
    }

    public function testWhatACallbackDefersRunsAfterWhatWaits(): void
    {
        $script = Script::run(<<<'PHP'
            $defer->defer(function () use ($defer): void {
                note('first');
                $defer->defer(fn () => note('third'));
                $defer->run();
                note('first is done');
            });
            $defer->defer(fn () => note('second'));
            $defer->run();
            note('run() is back');
            PHP);

        $this->assertSame(['first', 'first is done', 'second', 'third', 'run() is back'], $script->notes);
    }

    public function testASecondDeferRunWithinACallbackWaitsItsTurn(): void
    {
        $script = Script::run(<<<'PHP'
            $other = new Deferd\Defer();
            $defer->defer(function () use ($other): void {
                $other->defer(fn () => note('other'));
                $other->run();
                note('first');
            });
            $defer->defer(fn () => note('second'));
            $defer->run();
            note('run() is back');
            PHP);

        $this->assertSame(['first', 'second', 'other', 'run() is back'], $script->notes);
    }

    public function testRunsLaterWhatIsDeferredAfterRun(): void
    {
        $script = Script::run(<<<'PHP'
            $defer->defer(fn () => note('first'));
            $defer->run();
            $defer->defer(fn () => note('late'));
            note('end of the main code');
            PHP);

        $this->assertSame(['first', 'end of the main code', 'late'], $script->notes);
    }

    public function testClosesTheSessionAndOutlivesTheClient(): void
    {
        $script = Script::run(<<<'PHP'
            session_start();
            $_SESSION['seen'] = 1;
            $defer->defer(function (): void {
                note(session_status() === PHP_SESSION_NONE ? 'session closed' : 'session open');
                note(ignore_user_abort() === 1 ? 'goes on' : 'would be cut');
            });
            $defer->run();
            PHP);

        $this->assertSame(['session closed', 'goes on'], $script->notes);
    }

    public function testGoesOnWhenTheSessionOrAnOutputBufferFails(): void
    {
        $script = Script::run(<<<'PHP'
            session_set_save_handler(new class extends SessionHandler {
                public function open(string $path, string $name): bool { return true; }
                public function close(): bool { return true; }
                public function read(string $id): string|false { return ''; }
                public function write(string $id, string $data): bool { throw new Exception('no disk'); }
            }, false);
            session_start();
            $_SESSION['seen'] = 1;
            ob_start();
            echo 'page';
            ob_start(function (string $output): string { throw new Exception('no filter'); });
            echo ' body';
            $defer->defer(fn () => note('ran'));
            PHP);

        $this->assertSame(['ran'], $script->notes);
        $this->assertSame('page body', $script->output);
        $this->assertStringContainsString('could not write the session: Exception: no disk', $script->log);
        $this->assertStringContainsString('could not end an output buffer: Exception: no filter', $script->log);
    }

    public function testGoesOnWhenABufferCannotBeRemovedAndNoticesAreExceptions(): void
    {
        $script = Script::run(<<<'PHP'
            set_error_handler(function (int $level, string $message): bool { throw new ErrorException($message); });
            ob_start(null, 0, PHP_OUTPUT_HANDLER_FLUSHABLE);
            echo 'page';
            $defer->defer(fn () => note(ob_get_status(true)[0]['buffer_used'] === 0 ? 'passed on' : 'kept back'));
            $defer->defer(function (): void { echo 'noise'; note('next'); });
            PHP);

        $this->assertSame(['passed on', 'next'], $script->notes);
        $this->assertSame('page', $script->output);
        $this->assertSame('', $script->log);
    }

    public function testGoesOnWhenABufferComesBack(): void
    {
        $script = Script::run(<<<'PHP'
            final class Again
            {
                public static int $ended = 0;
                public function pass(string $output): string { return $output; }
                public function __destruct() { if (++self::$ended < 5) { ob_start([new self(), 'pass']); } }
            }
            ob_start([new Again(), 'pass']);
            echo 'page';
            $defer->defer(fn () => note('ended ' . Again::$ended));
            $defer->defer(function (): void { echo 'noise'; note('next'); });
            PHP);

        $this->assertSame(['ended 1', 'next'], $script->notes);
        $this->assertSame('page', $script->output);
        $this->assertSame('', $script->log);
    }

    public function testCallsNoFinishRequestThatIsWrittenInPhp(): void
    {
        $script = Script::run(<<<'PHP'
            function fastcgi_finish_request(): bool { note('called'); return true; }
            $defer->defer(fn () => note('ran'));
            PHP);

        $this->assertSame(['ran'], $script->notes);
    }

    public function testAForkedChildDoesNotRunWhatItsParentDeferred(): void
    {
        $script = Script::run(<<<'PHP'
            $fork = function (string $who): void {
                $pid = pcntl_fork();
                if ($pid === 0) { exit; }
                pcntl_waitpid($pid, $status);
                note($who);
            };
            $defer->defer(fn () => $fork('callback'));
            $defer->defer(fn () => note('next'));
            $fork('main');
            PHP);

        $this->assertSame(['main', 'callback', 'next'], $script->notes);
    }

    public function testAForkedChildRunsWhatItDeferredItself(): void
    {
        $script = Script::run(<<<'PHP'
            $defer->defer(fn () => note('of the parent'));
            $pid = pcntl_fork();
            if ($pid === 0) {
                (new Deferd\Defer())->defer(fn () => note('of the child'));
                exit;
            }
            pcntl_waitpid($pid, $status);
            PHP);

        $this->assertSame(['of the child', 'of the parent'], $script->notes);
    }

    public function testDestructorsOfWhatACallbackHoldsCountAsTheCallback(): void
    {
        $script = Script::run(<<<'PHP'
            final class Held
            {
                public function __destruct() { note('freed'); echo 'noise'; throw new Exception('boo'); }
            }
            $held = new Held();
            $defer->defer(fn () => note('holds a ' . $held::class), 'holder');
            $defer->defer(fn () => note('next'));
            unset($held);
            $defer->run();
            note('back');
            PHP);

        $this->assertSame(['holds a Held', 'freed', 'next', 'back'], $script->notes);
        $this->assertSame('', $script->output);
        $this->assertStringContainsString('deferred holder failed: Exception: boo', $script->log);
    }

    public function testDoesWithoutFunctionsThatAdministratorsSwitchOff(): void
    {
        $script = Script::run(<<<'PHP'
            $defer->defer(fn () => throw new Exception('boo'));
            $defer->defer(fn () => note('next'));
            $defer->run();
            note('back');
            PHP, ['disable_functions=getmypid,ignore_user_abort,error_log,session_status']);

        $this->assertSame(['next', 'back'], $script->notes);
    }
}
