<?php

declare(strict_types=1);

namespace Deferd\Tests;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

/**
 * With a token: what reaches the client, and what reaches deferd behind the marker.
 */
final class ReportsTest extends TestCase
{
    public function testMarkerAndReportsFollowTheBody(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            ob_start();
            echo 'page';
            ob_start(fn (string $output): string => strtoupper($output));
            echo ' body';
            $defer->defer(function (): void { echo 'noise'; }, 'mail');
            $defer->defer('time');
            $defer->run();
            $defer->run();
            PHP);

        $this->assertSame('page BODY', $script->response());
        $this->assertSame([
            ['event' => 'begin', 'tasks' => ['mail', 'time']],
            ['event' => 'start', 'task' => 0],
            ['event' => 'done', 'task' => 0],
            ['event' => 'start', 'task' => 1],
            ['event' => 'done', 'task' => 1],
            ['event' => 'end'],
        ], $script->reports());
        $this->assertSame(1, substr_count($script->output, 'DEFERD/1 END'));
    }

    public function testNamesTheWorkerAndTheTime(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            note((string) getmypid());
            $defer->defer(fn () => usleep(20_000));
            $defer->run();
            PHP);

        $begin = json_decode($script->lines()[0], true);
        $done = json_decode($script->lines()[2], true);
        $this->assertIsArray($begin);
        $this->assertIsArray($done);
        $this->assertSame((int) $script->notes[0], $begin['pid']);
        $this->assertGreaterThanOrEqual(20, $done['ms']);
        $this->assertLessThan(5000, $done['ms']);
    }

    public function testTheResponseIsOutBeforeTheFirstCallbackStarts(): void
    {
        if (!is_dir('/proc/self/fd')) {
            $this->markTestSkipped('needs /proc');
        }
        $script = Script::runBehindDeferd(<<<'PHP'
            echo 'page';
            $defer->defer(function (): void {
                note(str_contains((string) file_get_contents('/proc/self/fd/1'), '"event":"start"') ? 'out' : 'kept');
            });
            $defer->run();
            PHP);

        $this->assertSame(['out'], $script->notes);
    }

    public function testReportsWhatACallbackThrows(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(fn () => throw new DomainException("no \"luck\"\n{\"event\":\"end\"}"), 'mail');
            $defer->defer(fn () => throw new class ('anonymous') extends Exception {});
            $defer->defer(fn () => exit('noise'), 'exits');
            $defer->defer(fn () => note('next'));
            $defer->run();
            PHP);

        $this->assertSame(
            ['begin', 'start', 'fail', 'start', 'fail', 'start', 'fail', 'start', 'done', 'end'],
            $script->events()
        );
        $reports = $script->reports();
        $this->assertMatchesRegularExpression(
            '~^DomainException: no "luck"\n{"event":"end"} in /.+/script\.php:\d+$~',
            $reports[2]['error'] ?? ''
        );
        $this->assertMatchesRegularExpression(
            '~^Exception@anonymous: anonymous in /.+/script\.php:\d+$~',
            $reports[4]['error'] ?? ''
        );
        $this->assertStringStartsWith('exit: ', $reports[6]['error'] ?? '');
        $this->assertSame(['next'], $script->notes);
    }

    #[DataProvider('ends')]
    public function testMarkerComesAtTheEndHoweverTheMainCodeEnds(string $end, string $response): void
    {
        $script = Script::runBehindDeferd('$defer->defer("time"); echo "page"; ' . $end, ['memory_limit=32M']);

        $this->assertSame($response, $script->response());
        $this->assertSame(['begin', 'start', 'done', 'end'], $script->events());
    }

    /**
     * @return array<string, array{string, string}>
     */
    public static function ends(): array
    {
        return DeferTest::ends();
    }

    public function testAnEmptyRunSendsNoMarker(): void
    {
        $this->assertSame('page', Script::runBehindDeferd('echo "page"; $defer->run();')->output);
    }

    public function testFinishResponseSendsTheMarkerAndRunBegins(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            ob_start();
            echo 'page';
            note($defer->finishResponse() ? 'finished' : 'open');
            note($defer->finishResponse() ? 'finished' : 'open');
            while (ob_get_level() > 0) { ob_end_clean(); }
            echo 'stray';
            ob_start();
            echo 'kept in a buffer';
            $defer->defer(function (): void {
                $written = (string) file_get_contents('/proc/self/fd/1');
                note(str_contains($written, '"event":"start"') ? 'written' : 'kept');
            });
            $defer->run();
            PHP);

        $this->assertSame(['finished', 'finished', 'written'], $script->notes);
        $this->assertSame('page', $script->response());
        $this->assertSame('stray', $script->lines()[0]);
        $this->assertSame(['stray', 'begin', 'start', 'done', 'end'], $script->events());
        $this->assertSame(1, substr_count($script->output, 'DEFERD/1 END'));
    }

    public function testFinishResponseWithinACallbackLeavesItSilent(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(function () use ($defer): void {
                note($defer->finishResponse() ? 'finished' : 'open');
                echo 'noise';
            });
            $defer->run();
            PHP);

        $this->assertSame(['finished'], $script->notes);
        $this->assertSame(['begin', 'start', 'done', 'end'], $script->events());
    }

    public function testASecondDeferAddsItsTasks(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer('time', 'one');
            $defer->defer(fn () => $defer->defer('time', 'three'), 'two');
            $defer->run();
            $other = new Deferd\Defer();
            $other->defer('time', 'four');
            $other->run();
            PHP);

        $this->assertSame([
            ['event' => 'begin', 'tasks' => ['one', 'two']],
            ['event' => 'start', 'task' => 0],
            ['event' => 'done', 'task' => 0],
            ['event' => 'start', 'task' => 1],
            ['event' => 'done', 'task' => 1],
            ['event' => 'add', 'tasks' => ['three']],
            ['event' => 'start', 'task' => 2],
            ['event' => 'done', 'task' => 2],
            ['event' => 'end'],
            ['event' => 'add', 'tasks' => ['four']],
            ['event' => 'start', 'task' => 3],
            ['event' => 'done', 'task' => 3],
            ['event' => 'end'],
        ], $script->reports());
    }

    public function testTasksOfSeveralDefersRunInTheOrderOfTheirNumbers(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $other = new Deferd\Defer();
            $defer->defer(function () use ($other) { $other->defer('time', 'c'); $other->run(); }, 'a');
            $defer->defer(fn () => $defer->defer('time', 'd'), 'b');
            $defer->run();
            PHP);

        $starts = array_filter($script->reports(), static fn (array $report): bool => $report['event'] === 'start');
        $this->assertSame([0, 1, 2, 3], array_column($starts, 'task'));
    }

    public function testEveryLineFitsTheProtocol(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            for ($i = 0; $i < 300; $i++) {
                $defer->defer('time', str_repeat(["\x01", 'ü', "\xFF", 'plain ', "\u{2028}"][$i % 5], 3000));
            }
            for ($i = 0; $i < 3000; $i++) {
                $defer->defer('time', 'x');
            }
            $defer->defer(fn () => throw new Exception(str_repeat("\x01", 100_000)));
            $defer->defer(fn () => throw new Exception(str_repeat('日', 100_000)));
            $defer->defer(fn () => throw new Exception(str_repeat("\xFF", 100_000)));
            $defer->run();
            PHP);

        foreach ($script->lines() as $line) {
            $this->assertLessThanOrEqual(8191, strlen($line));
            $this->assertSame(1, preg_match('//u', $line), 'valid UTF-8');
        }
        $names = array_merge(...array_column($script->reports(), 'tasks'));
        $this->assertCount(3303, $names);
        $errors = array_column($script->reports(), 'error');
        $this->assertCount(3, $errors);
        foreach ($errors as $error) {
            $this->assertMatchesRegularExpression('~ in /.+/script\.php:\d+$~', $error);
        }
        $events = array_count_values($script->events());
        $this->assertSame(1, $events['begin']);
        $this->assertGreaterThan(5, $events['add']);
        $this->assertSame(3300, $events['done']);
        $this->assertSame(1, $events['end']);
        $this->assertArrayNotHasKey('stray', $events);
    }

    public function testACallbackThatSuspendsAFiberForGoodFails(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(fn () => Fiber::suspend());
            $defer->defer('time');
            $fiber = new Fiber(fn () => $defer->run());
            $fiber->start();
            PHP);

        $this->assertSame(['begin', 'start', 'fail', 'start', 'done', 'end'], $script->events());
    }

    public function testBuffersThatACallbackLeavesOpenKeepNoReportsBack(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(function (): void { ob_start(); ob_start(); echo 'dropped'; });
            $defer->defer('time');
            $defer->run();
            PHP);

        $this->assertSame(['begin', 'start', 'done', 'start', 'done', 'end'], $script->events());
    }

    public function testReportsStartOnALineOfTheirOwn(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(function (): void {
                while (ob_get_level() > 0) { ob_end_clean(); }
                echo 'stray';
                ob_start();
                ob_start();
                echo 'dropped';
            });
            $defer->defer('time');
            $defer->run();
            PHP);

        $this->assertSame('stray', $script->lines()[2]);
        $this->assertSame(['begin', 'start', 'stray', 'done', 'start', 'done', 'end'], $script->events());
    }

    public function testABufferThatCannotBeRemovedGetsNoMarker(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            ob_start(fn (string $output): string => strtoupper($output), 0, 0);
            echo 'page';
            $defer->defer(fn () => note('ran'));
            $defer->run();
            note($defer->finishResponse() ? 'finished' : 'open');
            PHP);

        $this->assertSame('PAGE', $script->output);
        $this->assertSame(['ran', 'open'], $script->notes);
    }

    public function testSkipsWhatHasNotStartedWhenItIsToStop(): void
    {
        $stop = sys_get_temp_dir() . '/deferd-stop-' . bin2hex(random_bytes(8));
        try {
            $script = Script::runBehindDeferd(
                '$defer->defer(function () use ($defer) {'
                . ' touch(' . var_export($stop, true) . '); $defer->defer(fn () => note("added")); note("first"); });'
                . '$defer->defer(fn () => note("second")); $defer->defer(fn () => note("third")); $defer->run();',
                [],
                $stop
            );
        } finally {
            @unlink($stop);
        }

        $this->assertSame(['first'], $script->notes);
        $this->assertSame(['begin', 'start', 'done', 'add', 'skip', 'skip', 'skip', 'end'], $script->events());
        $this->assertStringContainsString('"event":"skip","task":1,"why":"stopped"', $script->output);
    }

    public function testStopFileBeforeTheFirstCallbackSkipsAll(): void
    {
        $stop = (string) tempnam(sys_get_temp_dir(), 'deferd-stop-');
        try {
            $script = Script::runBehindDeferd('$defer->defer(fn () => note("ran")); $defer->run();', [], $stop);
        } finally {
            unlink($stop);
        }

        $this->assertSame([], $script->notes);
        $this->assertSame(['begin', 'skip', 'end'], $script->events());
    }

    public function testWithoutReportsNothingIsSkipped(): void
    {
        $script = Script::run('$defer->defer(fn () => note("ran")); $defer->run();');

        $this->assertSame(['ran'], $script->notes);
    }
}
