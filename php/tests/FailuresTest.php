<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Deferd\Defer;
use Deferd\Task;
use PHPUnit\Framework\TestCase;
use Psr\Log\AbstractLogger;

/**
 * Who hears of a callback that fails.
 */
final class FailuresTest extends TestCase
{
    private const LOGGER = <<<'PHP'
        require VENDOR;
        final class Logger extends Psr\Log\AbstractLogger
        {
            public function __construct(private Closure $log) {}
            public function log($level, string|Stringable $message, array $context = []): void
            {
                ($this->log)("$level $message {$context['task']}");
            }
        }
        PHP;

    public function testTheLoggerAndTheHandlerHearOfIt(): void
    {
        $log = new class extends AbstractLogger {
            /** @var list<array{mixed, string, array<mixed>}> */
            public array $lines = [];

            public function log($level, string|\Stringable $message, array $context = []): void
            {
                $this->lines[] = [$level, (string) $message, $context];
            }
        };
        $failures = [];
        $defer = new Defer($log, function (\Throwable $error, Task $task) use (&$failures): void {
            $failures[] = [$error, $task];
        });
        $error = new \DomainException('no luck');
        $task = $defer->defer(static fn () => throw $error, 'mail');
        $defer->defer('time');
        $defer->run();

        $this->assertCount(1, $log->lines);
        [$level, $message, $context] = $log->lines[0];
        $this->assertSame(['error', 'deferred {task} {what}'], [$level, $message]);
        $this->assertSame(['mail', $error], [$context['task'] ?? null, $context['exception'] ?? null]);
        $this->assertStringStartsWith('failed: DomainException: no luck in ', self::text($context['what'] ?? null));
        $this->assertSame([[$error, $task]], $failures);
    }

    public function testNothingGoesToTheErrorLogIfTheLoggerTakesIt(): void
    {
        $script = Script::run(self::LOGGER . <<<'PHP'
            $defer = new Deferd\Defer(new Logger(note(...)));
            $defer->defer(fn () => throw new Exception('boo'), 'mail');
            PHP);

        $this->assertSame(['error deferred {task} {what} mail'], $script->notes);
        $this->assertSame('', $script->log);
    }

    public function testWhatTheyThrowStopsNothing(): void
    {
        $script = Script::run(self::LOGGER . <<<'PHP'
            $defer = new Deferd\Defer(
                new Logger(fn () => throw new Exception('disk full')),
                fn () => throw new Exception('no handler'),
            );
            $defer->defer(fn () => throw new Exception('boo'), 'mail');
            $defer->defer(fn () => note('next'));
            PHP);

        $this->assertSame(['next'], $script->notes);
        $this->assertStringContainsString('deferd: could not log mail: Exception: disk full', $script->log);
        $this->assertStringContainsString('deferd: deferred mail failed: Exception: boo', $script->log);
        $this->assertStringContainsString(
            'deferd: could not tell of the failure of mail: Exception: no handler',
            $script->log
        );
    }

    public function testNeitherTheirOutputNorTheirExitStopsAnything(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer = new Deferd\Defer(onFailure: function (Throwable $error, Deferd\Task $task): void {
                echo 'noise';
                note($task->name() . ': ' . $error->getMessage());
                exit;
            });
            $defer->defer(fn () => throw new Exception('boo'), 'throws');
            $defer->defer(fn () => exit, 'exits');
            $defer->defer(fn () => note('next, with buffers: ' . ob_get_level()), 'next');
            $defer->run();
            PHP);

        $this->assertSame(
            ['throws: boo', 'exits: the callback ended with exit() or die()', 'next, with buffers: 1'],
            $script->notes
        );
        $this->assertSame(
            ['begin', 'start', 'fail', 'start', 'fail', 'start', 'done', 'end'],
            $script->events()
        );
    }

    public function testAHandlerMayDefer(): void
    {
        $script = Script::run(<<<'PHP'
            $defer = new Deferd\Defer(onFailure: function () use (&$defer): void {
                $defer->defer(fn () => note('alarm'));
            });
            $defer->defer(fn () => throw new Exception('boo'));
            PHP);

        $this->assertSame(['alarm'], $script->notes);
    }

    private static function text(mixed $value): string
    {
        return is_string($value) ? $value : '';
    }
}
