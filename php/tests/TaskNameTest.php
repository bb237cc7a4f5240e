<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Deferd\Task;
use Deferd\TaskName;
use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

final class TaskNameTest extends TestCase
{
    #[DataProvider('callables')]
    public function testNamesWhatIsCalled(callable $callback, string $name): void
    {
        $this->assertSame($name, TaskName::of($callback));
    }

    /**
     * @return array<string, array{callable, string}>
     */
    public static function callables(): array
    {
        $invokable = new class {
            public function __invoke(): void
            {
            }
        };

        return [
            'function' => ['strlen', 'strlen'],
            'static method in a string' => [self::class . '::work', self::class . '::work'],
            'static method' => [[self::class, 'work'], self::class . '::work'],
            'method' => [[new \ArrayObject(), 'count'], 'ArrayObject::count'],
            'invokable object' => [$invokable, 'class@anonymous::__invoke'],
            'closure' => [fn () => 1, __FILE__ . ':' . __LINE__],
            'closure over several lines' => [
                static function (): void {
                },
                __FILE__ . ':' . (__LINE__ - 2),
            ],
            'first-class function' => [strlen(...), 'strlen'],
            'first-class method' => [(new \ArrayObject())->count(...), 'ArrayObject::count'],
            'first-class inherited method' => [
                (new class extends \ArrayObject {
                })->count(...),
                'ArrayObject@anonymous::count',
            ],
            'first-class static method' => [self::work(...), self::class . '::work'],
            'first-class invokable object' => [$invokable(...), 'class@anonymous::__invoke'],
        ];
    }

    public function testANameThatWasGivenStands(): void
    {
        $this->assertSame('mail', (new Task('strlen', 'mail'))->name());
        $this->assertSame('0', (new Task('strlen', '0'))->name());
        $this->assertSame('strlen', (new Task('strlen', ''))->name());
        $this->assertSame('strlen', (new Task('strlen'))->name());
    }

    public static function work(): void
    {
    }
}
