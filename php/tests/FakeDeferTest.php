<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Deferd\Defer;
use Deferd\Task;
use PHPUnit\Framework\AssertionFailedError;
use PHPUnit\Framework\TestCase;

final class FakeDeferTest extends TestCase
{
    public function testRecordsAndRunsNothing(): void
    {
        $ran = false;
        $defer = Defer::fake();
        $task = $defer->defer(function () use (&$ran): void {
            $ran = true;
        }, 'mail');
        $defer->run();

        $this->assertFalse($ran);
        $this->assertFalse($defer->finishResponse());
        $this->assertSame([$task], $defer->tasks());
        $this->assertSame(['mail'], $defer->names());
        $this->assertCount(1, $defer);
        $this->assertFalse($defer->isEmpty());
        $defer->assertDeferredCount(1);
        $defer->assertDeferred('mail');
        $defer->assertDeferred(fn (Task $task): bool => $task->name() === 'mail');
        $defer->assertNotDeferred('time');
        $defer->assertNotDeferred(fn (Task $task): bool => $task->name() === 'time');
    }

    public function testAssertsThatNothingWasDeferred(): void
    {
        $defer = Defer::fake();
        $defer->assertNothingDeferred();
        $defer->defer('time');
        $this->assertFails(fn () => $defer->assertNothingDeferred(), 'something was deferred');
    }

    public function testSaysWhatIsNotAsItShouldBe(): void
    {
        $defer = Defer::fake();
        $defer->defer('time');
        $this->assertFails(fn () => $defer->assertDeferred('mail'), 'mail was not deferred');
        $this->assertFails(fn () => $defer->assertDeferred(fn () => false), 'such a callback was not deferred');
        $this->assertFails(fn () => $defer->assertNotDeferred('time'), 'time was deferred');
        $this->assertFails(fn () => $defer->assertNotDeferred(fn () => true), 'such a callback was deferred');
        $this->assertFails(fn () => $defer->assertDeferredCount(2), 'callbacks that were deferred');
    }

    public function testForgetsWhatWasTakenOut(): void
    {
        $defer = Defer::fake();
        $defer->defer('time', 'cancelled')->cancel();
        $defer->defer('time', 'forgotten');
        $defer->defer('time', 'kept');
        $defer->defer('phpversion', 'replaced');
        $defer->forget('forgotten');
        $defer->defer('time', 'replaced', replace: true);

        $this->assertSame(['kept', 'replaced'], $defer->names());
        $defer->assertDeferredCount(2);
    }

    public function testRunsWhatWasDeferredAndWhatThatDefers(): void
    {
        $ran = [];
        $defer = Defer::fake();
        $defer->defer(function (Task $task) use (&$ran, $defer): void {
            $task->progress(0.5, 'half');
            $ran[] = $task->stopped();
            $defer->defer(function () use (&$ran): void {
                $ran[] = 'added';
            });
        });
        $defer->runDeferred();
        $defer->runDeferred();

        $this->assertSame([false, 'added'], $ran);
        $this->assertTrue($defer->isEmpty());
        $defer->assertDeferredCount(2);
        $defer->forget($defer->tasks()[0]->name());
        $defer->assertDeferredCount(2);
    }

    public function testLetsATestSeeWhatACallbackThrows(): void
    {
        $defer = Defer::fake();
        $defer->defer(fn () => throw new \DomainException('boo'));
        $defer->defer('time', 'next');
        try {
            $defer->runDeferred();
            $this->fail('it came back');
        } catch (\DomainException) {
            $this->assertSame(['next'], $defer->names());
        }
    }

    public function testRunsInline(): void
    {
        $ran = false;
        $defer = Defer::fake(inline: true);
        $defer->defer(function () use (&$ran): void {
            $ran = true;
        });

        $this->assertTrue($ran);
        $defer->assertDeferredCount(1);
        $this->expectException(\DomainException::class);
        $defer->defer(fn () => throw new \DomainException('boo'));
    }

    /**
     * @param \Closure(): void $assertion
     */
    private function assertFails(\Closure $assertion, string $message): void
    {
        try {
            $assertion();
        } catch (AssertionFailedError $error) {
            $this->assertStringContainsString($message, $error->getMessage());

            return;
        }
        $this->fail('it held');
    }
}
