<?php

declare(strict_types=1);

namespace Deferd;

/**
 * The way from this request to its client and to deferd: ends the response, then carries the reports.
 *
 * Behind deferd, the marker ends the response: everything printed before it goes to the client, everything after
 * it to deferd alone (docs/protocol.md). One response has one end, so there is one channel in a request.
 *
 * @internal
 */
final class Channel
{
    /** On these nobody waits for a response, and a test that runs the application reads its output buffers. */
    private const CONSOLES = ['cli', 'phpdbg', 'embed'];

    private static ?self $current = null;

    private ResponseState $state = ResponseState::Open;
    private string $pending = '';
    private bool $dirty = false;

    /** Over what the main code prints behind the marker. */
    private readonly Silence $silence;

    /**
     * @param string|null $token what the marker takes to be deferd's; null without deferd
     * @param string|null $stop  the file that tells the deferred phase to stop; null if there is none to come
     */
    public function __construct(private readonly ?string $token, private readonly ?string $stop = null)
    {
        $this->silence = new Silence(static fn (): string => '');
    }

    public static function current(): self
    {
        return self::$current ??= new self(self::token(), self::stop());
    }

    /**
     * Ends the response. Behind deferd the marker waits for the next flush(), so that it can share a write with the
     * first reports.
     *
     * @param bool $atExit whether the main code is over; before that, the output buffers of a console program are
     *                     left alone
     */
    public function finish(bool $atExit): void
    {
        if ($this->state !== ResponseState::Open) {
            return;
        }
        // A client, or a deferd, that went away must not end the deferred work at the next write.
        if (function_exists('ignore_user_abort')) {
            ignore_user_abort(true);
        }
        if ($this->token === null && !$atExit && in_array(PHP_SAPI, self::CONSOLES, true)) {
            return;
        }
        $ended = OutputBuffers::end();
        if ($ended && $this->token !== null) {
            $this->pending = "\x1EDEFERD/1 END {$this->token}\n";
            $this->state = ResponseState::Marked;
        } elseif (self::finishNatively()) {
            $this->state = ResponseState::Closed;
        } else {
            OutputBuffers::flush();
            flush();
        }
    }

    /**
     * Whether deferd is there.
     */
    public function behindDeferd(): bool
    {
        return $this->token !== null;
    }

    /**
     * Whether the client has the complete response, after the next flush().
     */
    public function finished(): bool
    {
        return $this->state !== ResponseState::Open;
    }

    /**
     * Whether reports have a reader: deferd has, or gets with the next flush(), the marker.
     */
    public function reports(): bool
    {
        return $this->state === ResponseState::Marked;
    }

    /**
     * Whether an operator wants what has not started to be skipped. deferd makes the file for this.
     */
    public function stopRequested(): bool
    {
        // Outside open_basedir PHP would warn, and not see it.
        return $this->reports() && $this->stop !== null && @file_exists($this->stop);
    }

    /**
     * Makes way for reports, in case the main code went on after the marker. What it left in output buffers has no
     * reader.
     */
    public function resume(): void
    {
        if ($this->state === ResponseState::Marked) {
            OutputBuffers::dropAbove(0);
            $this->freshLine();
        }
    }

    /**
     * Drops what the main code prints from here on: deferd would take for a report whatever looks like one, even if a
     * visitor has sent it.
     */
    public function hush(): void
    {
        if ($this->reports() && ob_get_level() === 0) {
            $this->silence->begin();
        }
    }

    /**
     * Lets the next flush() begin on a new line, in case somebody else printed something since the last one.
     */
    public function freshLine(): void
    {
        // Nothing may come between the body and the marker.
        $this->dirty = $this->reports() && !$this->marking();
    }

    /**
     * Adds to what the next flush() writes. Only when reports() says so.
     */
    public function write(string $bytes): void
    {
        $this->pending .= $bytes;
    }

    /**
     * Writes what has been added. While somebody's output buffer is open it waits: it would come late, or changed, or
     * never.
     */
    public function flush(): void
    {
        if ($this->pending === '') {
            return;
        }
        if ($this->silence->holds()) {
            $this->silence->pass($this->take());
        } elseif (ob_get_level() === 0) {
            // The echo also sends the headers, which flush() alone does not do before PHP 8.4.
            echo $this->take();
            flush();
        }
    }

    /**
     * What the next flush() would write, for somebody else to write.
     */
    public function take(): string
    {
        $bytes = ($this->dirty ? "\n" : '') . $this->pending;
        $this->pending = '';
        $this->dirty = false;

        return $bytes;
    }

    private function marking(): bool
    {
        return str_starts_with($this->pending, "\x1E");
    }

    /**
     * deferd sends the token as a FastCGI param (docs/protocol.md). getenv() reads the params under these SAPIs, and
     * a request header cannot forge one: it arrives as HTTP_…. Pages that print $_SERVER need not show it.
     */
    private static function token(): ?string
    {
        $token = self::param('DEFERD_TOKEN');

        return preg_match('/\A[0-9a-f]{32}\z/', $token) === 1 ? $token : null;
    }

    /**
     * The path in DEFERD_STOP, which, like the token, is deferd's to send.
     */
    private static function stop(): ?string
    {
        $path = self::param('DEFERD_STOP');

        return str_starts_with($path, '/') ? $path : null;
    }

    private static function param(string $name): string
    {
        if (!in_array(PHP_SAPI, ['fpm-fcgi', 'cgi-fcgi'], true)) {
            return '';
        }
        $value = (string) getenv($name);
        unset($_SERVER[$name], $_ENV[$name]);

        return $value;
    }

    /**
     * Writes and closes the session: one that stays open keeps the next request of the same visitor waiting.
     */
    public static function closeSession(): void
    {
        if (function_exists('session_status') && session_status() === PHP_SESSION_ACTIVE) {
            Attempt::to('write the session', session_write_close(...));
        }
    }

    private static function finishNatively(): bool
    {
        foreach (['fastcgi_finish_request', 'litespeed_finish_request'] as $name) {
            // Only PHP's own function: one written in PHP may come back to us.
            if (function_exists($name) && (new \ReflectionFunction($name))->isInternal()) {
                return Attempt::to('end the response', $name(...)) === true;
            }
        }

        return false;
    }
}
