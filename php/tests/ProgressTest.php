<?php

declare(strict_types=1);

namespace Deferd\Tests;

use PHPUnit\Framework\TestCase;

final class ProgressTest extends TestCase
{
    public function testIsWrittenAtOnceAndTheLastOneBeforeDone(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $written = fn () => (string) file_get_contents('/proc/self/fd/1');
            $defer->defer(function (Deferd\Task $task) use ($written): void {
                echo 'noise';
                $task->progress(0.25, 'first');
                note(str_contains($written(), '"ratio":0.25') ? 'written' : 'kept');
                for ($i = 0; $i < 1000; $i++) {
                    $task->progress($i / 1000, "step $i");
                }
                echo 'noise';
                $task->progress(0.9, 'last');
                note(str_contains($written(), '"ratio":0.9') ? 'written' : 'kept');
            });
            $defer->run();
            PHP);

        $this->assertSame(['written', 'kept'], $script->notes);
        $progress = array_values(array_filter($script->reports(), static fn ($each) => $each['event'] === 'progress'));
        $this->assertSame(['event' => 'progress', 'task' => 0, 'ratio' => 0.25, 'text' => 'first'], $progress[0]);
        $this->assertSame('last', end($progress)['text'] ?? null);
        $this->assertLessThan(10, count($progress));
        $this->assertSame(['progress', 'done', 'end'], array_slice($script->events(), -3));
        $this->assertNotContains('stray', $script->events());
    }

    public function testIsWrittenAgainAfterATenthOfASecond(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(function (Deferd\Task $task): void {
                $task->progress(0.1);
                usleep(110_000);
                $task->progress(0.2);
                $written = (string) file_get_contents('/proc/self/fd/1');
                note(str_contains($written, '"ratio":0.2') ? 'written' : 'kept');
                $task->progress(0.3);
                throw new Exception('half way');
            });
            $defer->defer(fn (Deferd\Task $task) => $task->progress(0.4));
            PHP);

        $this->assertSame(['written'], $script->notes);
        $this->assertSame(
            ['begin', 'start', 'progress', 'progress', 'progress', 'fail', 'start', 'progress', 'done', 'end'],
            $script->events()
        );
    }

    public function testFitsTheProtocolWhateverItIsGiven(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            foreach ([NAN, -1, 2, INF, -INF, 1 / 3] as $ratio) {
                $defer->defer(fn (Deferd\Task $task) => $task->progress($ratio, str_repeat("\x01", 9999)));
            }
            PHP);

        $this->assertEquals([0, 0, 1, 1, 0, 0.3333], array_column($script->reports(), 'ratio'));
        foreach ($script->lines() as $line) {
            $this->assertLessThanOrEqual(8191, strlen($line));
        }
        $this->assertNotContains('stray', $script->events());
    }

    public function testWaitsForTheBuffersOfTheCallback(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(function (Deferd\Task $task): void {
                ob_start(fn (string $output): string => strrev($output));
                $task->progress(0.5);
                echo 'dropped';
            });
            $defer->run();
            PHP);

        $this->assertSame(['begin', 'start', 'progress', 'done', 'end'], $script->events());
    }

    public function testIsWrittenBehindWhatACallbackPrintedPastUs(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(function (Deferd\Task $task): void {
                ob_end_clean();
                echo 'stray';
                $task->progress(0.5);
            });
            $defer->run();
            PHP);

        $this->assertSame(['begin', 'start', 'stray', 'progress', 'done', 'end'], $script->events());
    }

    public function testSaysNothingBeforeAndAfterAndWithoutDeferd(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $task = $defer->defer('time');
            $task->progress(0.5);
            $defer->run();
            $task->progress(0.5);
            PHP);
        $this->assertSame(['begin', 'start', 'done', 'end'], $script->events());

        $script = Script::run('$defer->defer(function (Deferd\Task $task): void { $task->progress(1); note("on"); });');
        $this->assertSame(['on'], $script->notes);
        $this->assertSame('', $script->output);
    }

    public function testAForkedChildReportsNothing(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $fork = function (Closure $child): void {
                $pid = pcntl_fork();
                if ($pid === 0) {
                    $child();
                    exit;
                }
                pcntl_waitpid($pid, $status);
            };
            $task = $defer->defer(function (Deferd\Task $task) use ($fork): void {
                ob_end_clean();
                $fork(fn () => $task->progress(0.5));
            });
            Deferd\FinishRequest::finish();
            $fork(fn () => $task->cancel());
            PHP);

        $this->assertSame(['begin', 'start', 'done', 'end'], $script->events());
    }
}
