<?php

declare(strict_types=1);

namespace Deferd;

use Psr\Log\LoggerInterface;

/**
 * Who hears of a callback that failed: the logger, or PHP's error log, and the application's own handler.
 *
 * @internal
 */
final class Failures
{
    /** @var (\Closure(\Throwable, Task): mixed)|null */
    private readonly ?\Closure $handler;

    /**
     * @param (callable(\Throwable, Task): mixed)|null $handler
     */
    public function __construct(private readonly ?LoggerInterface $logger, ?callable $handler)
    {
        $this->handler = $handler === null ? null : $handler(...);
    }

    /**
     * @param \Throwable $error where PHP gives none (exit, a fatal error) one that says what happened
     */
    public function tell(Task $task, string $what, \Throwable $error): void
    {
        if ($this->logger === null || !$this->log($this->logger, $task, $what, $error)) {
            self::write($task, $what);
        }
        $handler = $this->handler;
        if ($handler !== null) {
            Attempt::to("tell of the failure of {$task->name()}", static fn () => $handler($error, $task));
        }
    }

    private function log(LoggerInterface $logger, Task $task, string $what, \Throwable $error): bool
    {
        $context = ['task' => $task->name(), 'error' => $what, 'exception' => $error];

        return Attempt::to("log the failure of {$task->name()}", static function () use ($logger, $context): bool {
            $logger->error('deferred {task} failed: {error}', $context);

            return true;
        }) === true;
    }

    /**
     * To PHP's error log.
     */
    public static function write(Task $task, string $what): void
    {
        ErrorLog::write("deferred {$task->name()} failed: $what");
    }
}
