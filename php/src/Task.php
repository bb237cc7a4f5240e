<?php

declare(strict_types=1);

namespace Deferd;

/**
 * One deferred callback: what defer() returns, and what a callback that takes a parameter is given.
 *
 *     $defer->defer(function (Deferd\Task $task) use ($images): void {
 *         foreach ($images as $i => $image) {
 *             if ($task->stopped()) {
 *                 return;
 *             }
 *             $task->progress($i / count($images), $image->name);
 *             $image->resize();
 *         }
 *     }, 'thumbnails')->timeLimit(60)->always();
 *
 * Not to be constructed by applications.
 */
final class Task
{
    /** The bytes of a name that deferd keeps. */
    public const NAME = 128;

    /**
     * Its number in the reports to deferd; null until it was announced there.
     *
     * @internal
     */
    public ?int $index = null;

    /**
     * Which it is in.
     *
     * @internal
     */
    public ?TaskQueue $queue = null;

    private string $name;
    private TaskState $state = TaskState::Waiting;
    private bool $always = false;

    private ?TimeLimit $limit = null;

    /** @var callable|JobInterface|null null once it was called or cancelled */
    private $callback;

    /**
     * @param bool          $skipOnError whether it is skipped after an error response, unless always() says otherwise
     * @param Failures|null $failures    who hears of its failure
     *
     * @internal
     */
    public function __construct(
        callable|JobInterface $callback,
        ?string $name = null,
        private readonly bool $skipOnError = false,
        public readonly ?Failures $failures = null,
    ) {
        $this->callback = $callback;
        $this->name = $name === null || $name === ''
            ? Text::tail(TaskName::of($callback), self::NAME)
            : Text::clip($name, self::NAME);
    }

    /**
     * With an argument, gives the task another name; without one, tells its name. A name is what operators see;
     * once deferd was told one, which it is when the response ends, deferd keeps that.
     *
     * @return ($name is null ? string : static)
     */
    public function name(?string $name = null): static|string
    {
        if ($name === null) {
            return $this->name;
        }
        $this->name = $name === '' ? $this->name : Text::clip($name, self::NAME);
        $this->queue?->name($this);

        return $this;
    }

    /**
     * Runs it also after an error response (status 400 and above). It makes a difference only if Defer was
     * constructed with skipOnError.
     */
    public function always(): static
    {
        $this->always = true;

        return $this;
    }

    /**
     * Takes it out, if it has not started.
     */
    public function cancel(): void
    {
        $this->skip('cancelled');
    }

    /**
     * How long it may take. Two clocks count:
     *
     * PHP's own time limit (set_time_limit(), in whole seconds) is set when the callback starts and set back when it
     * ends. On Linux that is CPU time, without sleeping and waiting for others. Passing it is a fatal error, after
     * which nothing else of the request is run.
     *
     * stopped() turns true when that much time has passed on the wall clock, for a callback that looks, and ends in
     * time.
     *
     * Called by the callback itself, the time counts from then on. 0 is no limit.
     *
     * @throws \ValueError if $seconds is below 0
     */
    public function timeLimit(int|float $seconds): static
    {
        if (!($seconds >= 0)) {
            throw new \ValueError('A time limit is 0 seconds or more');
        }
        $this->limit?->lift();
        $this->limit = new TimeLimit((float) $seconds);
        if ($this->state === TaskState::Running) {
            $this->limit->begin();
        }

        return $this;
    }

    /**
     * Tells how far the callback is, for those who watch. deferd is told at most ten times a second.
     *
     * @param float  $ratio from 0 to 1
     * @param string $text  a few words; cut if they are long
     */
    public function progress(float $ratio, string $text = ''): void
    {
        if ($this->state === TaskState::Running && $this->index !== null) {
            Phase::current()->progress($this, $ratio, $text);
        }
    }

    /**
     * Whether the callback should end early: an operator has asked for it, or its time limit has passed on the wall
     * clock.
     */
    public function stopped(): bool
    {
        return $this->limit?->passed() === true || Channel::current()->stopRequested();
    }

    /**
     * Whether it has not started and was not cancelled.
     *
     * @internal
     */
    public function waits(): bool
    {
        return $this->state === TaskState::Waiting;
    }

    /**
     * Whether it was never to be run, or is not any more.
     *
     * @internal
     */
    public function wasDropped(): bool
    {
        return $this->state === TaskState::Dropped;
    }

    /**
     * Takes it out, if it has not started, and reports that if it was announced.
     *
     * @internal
     */
    public function skip(string $why): void
    {
        if ($this->waits()) {
            $this->drop();
            if ($this->index !== null) {
                Phase::current()->skip($this, $why);
            }
        }
    }

    /**
     * It is not to be run. What only the callback kept alive is freed now.
     *
     * @internal
     */
    public function drop(): void
    {
        $this->state = TaskState::Dropped;
        $this->callback = null;
    }

    /**
     * Why it is to be skipped when its turn has come; null if it is to be run.
     *
     * @internal
     */
    public function whyNot(): ?string
    {
        $status = $this->skipOnError && !$this->always ? http_response_code() : false;

        return is_int($status) && $status >= 400 ? "status $status" : null;
    }

    /**
     * It is about to be called.
     *
     * @internal
     */
    public function begin(): void
    {
        $this->state = TaskState::Running;
        $this->limit?->begin();
    }

    /**
     * Calls the callback; a second call does nothing. What only the callback kept alive is freed before this
     * returns, so that its destructors count as the callback's work.
     *
     * @throws \Throwable what the callback throws
     *
     * @internal
     */
    public function run(): void
    {
        $callback = $this->callback;
        $this->callback = null;
        if ($callback instanceof JobInterface) {
            $callback->callback($callback->job());
        } elseif ($callback !== null) {
            self::takesTask($callback) ? $callback($this) : $callback();
        }
    }

    /**
     * It was called, whatever became of it.
     *
     * @internal
     */
    public function end(): void
    {
        $this->state = TaskState::Over;
        $this->limit?->lift();
    }

    /**
     * Whether the first parameter is for us: it says so, or it cannot do without an argument. One that has a default
     * of its own keeps it.
     */
    private static function takesTask(callable $callback): bool
    {
        $parameter = (new \ReflectionFunction($callback(...)))->getParameters()[0] ?? null;

        return $parameter !== null
            && (!$parameter->isOptional() || in_array(self::class, self::classes($parameter->getType()), true));
    }

    /**
     * @return list<string>
     */
    private static function classes(?\ReflectionType $type): array
    {
        return match (true) {
            $type instanceof \ReflectionNamedType => [$type->getName()],
            $type instanceof \ReflectionUnionType => array_merge(...array_map(self::classes(...), $type->getTypes())),
            default => [],
        };
    }
}
