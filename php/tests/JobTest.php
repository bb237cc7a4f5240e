<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Deferd\Defer;
use Deferd\Job;
use Deferd\JobInterface;
use Deferd\Task;
use PHPUnit\Framework\TestCase;

final class JobTest extends TestCase
{
    /** @var list<mixed> */
    private array $seen = [];

    public function testRunsTheJobAndThenItsCallbackWithTheResult(): void
    {
        $defer = new Defer();
        $this->assertSame(JobInterface::class . '@anonymous', $defer->defer($this->job(fn (): int => 42))->name());
        $this->assertSame('answer', $defer->defer($this->job(fn () => null), 'answer')->name());
        $defer->run();

        $this->assertSame(['job', 'callback', 42, 'job', 'callback', null], $this->seen);
    }

    public function testDoesNotCallBackWhenTheJobThrows(): void
    {
        $failed = [];
        $defer = new Defer(onFailure: function (\Throwable $error, Task $task) use (&$failed): void {
            $failed[] = $error->getMessage();
        }, logger: new \Psr\Log\NullLogger());
        $defer->defer($this->job(fn () => throw new \DomainException('boo')));
        $defer->run();

        $this->assertSame(['job'], $this->seen);
        $this->assertSame(['boo'], $failed);
    }

    public function testAJobNeedsNoCallback(): void
    {
        $job = new class extends Job {
            public int $jobs = 0;

            public function job(): mixed
            {
                return ++$this->jobs;
            }
        };
        $defer = new Defer();
        $this->assertSame(Job::class . '@anonymous', $defer->defer($job)->name());
        $defer->run();

        $this->assertSame(1, $job->jobs);
    }

    /**
     * @param \Closure(): mixed $work
     */
    private function job(\Closure $work): JobInterface
    {
        return new class ($this->seen, $work) implements JobInterface {
            /**
             * @param list<mixed>       $seen
             * @param \Closure(): mixed $work
             */
            public function __construct(private array &$seen, private readonly \Closure $work)
            {
            }

            public function job(): mixed
            {
                $this->seen[] = 'job';

                return ($this->work)();
            }

            public function callback(mixed $result): void
            {
                array_push($this->seen, 'callback', $result);
            }
        };
    }
}
