<?php

declare(strict_types=1);

namespace Deferd\Tests;

use PHPUnit\Framework\Attributes\TestWith;
use PHPUnit\Framework\Attributes\Group;
use PHPUnit\Framework\TestCase;

/**
 * After-response work that somebody else calls.
 */
final class WatchTest extends TestCase
{
    public function testReportsStartAndEndAndChangesNothingForTheCaller(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $double = Deferd\Watch::callback(fn (int $x, int ...$more) => $x * 2 + array_sum($more), 'double');
            echo 'page';
            Deferd\FinishRequest::finish();
            $late = Deferd\Watch::callback(fn () => throw new DomainException('boo'), 'late');
            note((string) $double(20, more: 2));
            try { $late(); } catch (DomainException $error) { note($error->getMessage()); }
            note((string) $double(1));
            PHP);

        $this->assertSame('page', $script->response());
        $this->assertSame(['42', 'boo', '2'], $script->notes);
        $this->assertSame(
            ['begin double', 'add late', 'start 0', 'done 0', 'start 1', 'fail 1', 'end'],
            $script->story()
        );
        $this->assertStringStartsWith('DomainException: boo in ', $script->reports()[5]['error'] ?? '');
        $this->assertSame('', $script->log, 'whoever called it tells');
    }

    /**
     * @param string       $buffers PHP code: what becomes of the buffer that drops what is printed
     * @param list<string> $events
     */
    #[TestWith(['', ['begin', 'start', 'done', 'end']])]
    #[TestWith(['ob_end_clean();', ['begin', 'stray', 'start', 'stray', 'done', 'stray', 'end']])]
    public function testIsWrittenAtOnceAndOnLinesOfItsOwn(string $buffers, array $events): void
    {
        $script = Script::runBehindDeferd(sprintf(<<<'PHP'
            $written = fn () => (string) file_get_contents('/proc/self/fd/1');
            $watched = Deferd\Watch::callback(function () use ($written): void {
                note(str_contains($written(), '"event":"start"') ? 'written' : 'kept');
                echo 'stray';
            });
            Deferd\FinishRequest::finish();
            %s
            echo 'stray';
            $watched();
            note(str_contains($written(), '"event":"done"') ? 'written' : 'kept');
            echo 'stray';
            PHP, $buffers));

        $this->assertSame(['written', 'written'], $script->notes);
        $this->assertSame($events, $script->events());
    }

    public function testReportsWaitWhileSomebodyElsesBufferIsOpen(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $watched = Deferd\Watch::callback(fn () => note('ran'));
            Deferd\FinishRequest::finish();
            ob_start(fn (string $output): string => strrev($output));
            $watched();
            ob_end_clean();
            $defer->defer('time', 'mail');
            $defer->run();
            ob_start();
            Deferd\Watch::callback('time', 'late');
            PHP);

        $this->assertSame(['ran'], $script->notes);
        $this->assertSame([
            'start 0', 'done 0', 'add mail', 'start 1', 'done 1', 'add late', 'skip 2: not called', 'end',
        ], array_slice($script->story(), 1));
    }

    public function testWhatNobodyCallsIsSkippedAtTheEnd(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $one = Deferd\Watch::callback('time', 'one');
            $two = Deferd\Watch::callback('time', 'two');
            $defer->defer('time', 'mail');
            $defer->run();
            $two();
            PHP);

        $this->assertSame([
            'begin one, two',
            'add mail',
            'start 2',
            'done 2',
            'start 1',
            'done 1',
            'skip 0: not called',
            'end',
        ], $script->story());
    }

    public function testBeforeTheResponseIsOverItIsOnlyCalled(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $early = Deferd\Watch::callback(fn () => 'result', 'early');
            note($early());
            Deferd\FinishRequest::finish(false);
            note($early());
            PHP);

        $this->assertSame(['result', 'result'], $script->notes);
        $this->assertSame(['begin', 'end'], $script->story());
    }

    public function testWithoutDeferdItIsTheCallback(): void
    {
        $script = Script::run(<<<'PHP'
            $closure = fn () => note('ran');
            note(Deferd\Watch::callback($closure) === $closure ? 'same' : 'another');
            Deferd\Watch::callback('note')('called');
            PHP);

        $this->assertSame(['same', 'called'], $script->notes);
    }

    public function testIsNotCalledWhenAnOperatorHasAskedForAStop(): void
    {
        $stop = (string) tempnam(sys_get_temp_dir(), 'deferd-stop-');
        try {
            $script = Script::runBehindDeferd(<<<'PHP'
                $watched = Deferd\Watch::callback(fn () => note('ran'));
                Deferd\FinishRequest::finish();
                note(var_export($watched(), true));
                PHP, [], $stop);
        } finally {
            unlink($stop);
        }

        $this->assertSame(['NULL'], $script->notes);
        $this->assertSame('skip 0: stopped', $script->story()[1]);
    }

    public function testOneThatExitsHasFailed(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $watched = Deferd\Watch::callback(fn () => exit('bye'), 'exits');
            $defer->defer(fn () => note('mail'), 'mail');
            Deferd\FinishRequest::finish();
            $watched();
            PHP);

        $this->assertSame(['mail'], $script->notes);
        $this->assertSame(
            ['begin exits, mail', 'start 0', 'fail 0', 'start 1', 'done 1', 'end'],
            $script->story()
        );
    }

    public function testAfterAFatalErrorInOneTheRestIsNotRun(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $inner = Deferd\Watch::callback(fn () => trigger_error('boo', E_USER_ERROR), 'inner');
            $outer = Deferd\Watch::callback(fn () => $inner(), 'outer');
            Deferd\Watch::callback('time', 'uncalled');
            $defer->defer(fn () => note('mail'), 'mail');
            Deferd\FinishRequest::finish();
            $outer();
            PHP);

        $this->assertSame([], $script->notes);
        $this->assertSame([
            'begin inner, outer, uncalled, mail',
            'start 1',
            'start 0',
            'fail 0',
            'fail 1',
            'skip 3: not run: fatal error in inner',
            'skip 2: not run: fatal error in inner',
            'end',
        ], $script->story());
        $this->assertStringContainsString('deferd: deferred mail not run: fatal error in inner', $script->log);
    }

    #[Group('not-with-xdebug')]
    public function testOneThatAFiberNeverEndsIsAccountedFor(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $kept = Deferd\Watch::callback(fn () => Fiber::suspend(), 'kept');
            $lost = Deferd\Watch::callback(fn () => Fiber::suspend(), 'lost');
            Deferd\FinishRequest::finish();
            $fiber = new Fiber($kept);
            $fiber->start();
            (new Fiber($lost))->start();
            $resume = function () use ($fiber): void { $fiber->resume(); note('resumed'); };
            $behindUs = fn () => register_shutdown_function(fn () => register_shutdown_function($resume));
            register_shutdown_function($behindUs);
            PHP);

        $this->assertSame(['resumed'], $script->notes);
        $this->assertSame('', $script->log);

        $this->assertSame(['begin kept, lost', 'start 0', 'start 1', 'fail 1', 'fail 0', 'end'], $script->story());
    }

    public function testATaskMayCallOne(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $watched = Deferd\Watch::callback(fn () => note('ran'), 'inner');
            $defer->defer(fn () => $watched(), 'outer');
            $defer->run();
            PHP);

        $this->assertSame(['ran'], $script->notes);
        $this->assertSame(
            ['begin inner', 'add outer', 'start 1', 'start 0', 'done 0', 'done 1', 'end'],
            $script->story()
        );
    }

    public function testAForkedChildOnlyCallsIt(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $watched = Deferd\Watch::callback(fn () => note('ran'), 'watched');
            Deferd\FinishRequest::finish();
            $pid = pcntl_fork();
            if ($pid === 0) { $watched(); exit; }
            pcntl_waitpid($pid, $status);
            PHP);

        $this->assertSame(['ran'], $script->notes);
        $this->assertSame(['begin watched', 'skip 0: not called', 'end'], $script->story());
    }
}
