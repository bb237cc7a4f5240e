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
    /**
     * @param (\Closure(\Throwable, Task): mixed)|null $handler
     */
    public function __construct(private readonly ?LoggerInterface $logger, private readonly ?\Closure $handler)
    {
    }

    /**
     * @param \Throwable $error where PHP gives none (exit, a fatal error) one that says what happened
     */
    public function tell(Task $task, string $what, \Throwable $error): void
    {
        $this->log($task, "failed: $what", ['exception' => $error]);
        $handler = $this->handler;
        if ($handler !== null) {
            Attempt::to("tell of the failure of {$task->name()}", static fn () => $handler($error, $task));
        }
    }

    /**
     * To the logger, or else to PHP's error log.
     *
     * @param array<string, mixed> $context
     */
    public function log(Task $task, string $what, array $context = []): void
    {
        $logger = $this->logger;
        $logged = $logger !== null && Attempt::to("log {$task->name()}", static function () use (
            $logger,
            $task,
            $what,
            $context
        ): bool {
            $logger->error('deferred {task} {what}', ['task' => $task->name(), 'what' => $what] + $context);

            return true;
        });
        if ($logged !== true) {
            self::write($task, $what);
        }
    }

    /**
     * To PHP's error log.
     */
    public static function write(Task $task, string $what): void
    {
        ErrorLog::write("deferred {$task->name()} $what");
    }
}
