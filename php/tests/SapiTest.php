<?php

declare(strict_types=1);

namespace Deferd\Tests;

use Deferd\Tests\Sapi\Cgi;
use Deferd\Tests\Sapi\Fpm;
use Deferd\Tests\Sapi\Sapi;
use Deferd\Tests\Sapi\Server;
use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

/**
 * Where there is a client: php-fpm, php-cgi and `php -S`, behind deferd (a request with a token) and without.
 */
final class SapiTest extends TestCase
{
    private const DEFERD = ['DEFERD_TOKEN' => Script::TOKEN];
    private const HEAD = ['REQUEST_METHOD' => 'HEAD'];
    private const STORY = ['begin mail', 'start 0', 'done 0', 'end'];

    #[DataProvider('sapis')]
    public function testAnswersFirstWhereItCanAndRunsTheCallback(Sapi $sapi, bool $finishes, bool $reports): void
    {
        $script = Script::run(<<<'PHP'
            header('X-Page: yes');
            ob_start();
            echo 'page';
            $defer->defer(function (): void { echo 'noise'; note('ran'); }, 'mail');
            $defer->run();
            note(var_export($defer->finishResponse(), true));
            note(PHP_SAPI . ' ' . json_encode(array_filter(
                array_keys($_SERVER + $_ENV),
                fn ($name): bool => str_starts_with((string) $name, 'DEFERD_')
            )));
            PHP, [], $sapi);

        $name = ['Fpm' => 'fpm-fcgi', 'Cgi' => 'cgi-fcgi', 'Server' => 'cli-server'][basename(
            strtr($sapi::class, '\\', '/')
        )] ?? '';
        $this->assertSame(['ran', var_export($finishes, true), "$name []"], $script->notes);
        $this->assertSame('page', $script->response());
        $this->assertStringContainsString('X-Page: yes', $script->headers);
        $this->assertSame($reports ? self::STORY : [], $script->story());
        $this->assertSame('', $script->log);
    }

    /**
     * @return array<string, array{Sapi, bool, bool}>
     */
    public static function sapis(): array
    {
        return [
            'php-fpm behind deferd' => [new Fpm(self::DEFERD), true, true],
            'php-fpm' => [new Fpm(), true, false],
            'php-fpm with a token that is none' => [new Fpm(['DEFERD_TOKEN' => 'ABC']), true, false],
            'php-cgi behind deferd' => [new Cgi(self::DEFERD), true, true],
            'php-cgi' => [new Cgi(), false, false],
            'php -S' => [new Server(), false, false],
        ];
    }

    /**
     * PHP drops all output then, reports too.
     */
    #[DataProvider('heads')]
    public function testRunsTheCallbackAfterAHeadRequest(Sapi $sapi): void
    {
        $script = Script::run(<<<'PHP'
            header('X-Page: yes');
            echo 'page';
            $defer->defer(fn () => note('ran'));
            PHP, [], $sapi);

        $this->assertSame(['ran'], $script->notes);
        $this->assertSame('', $script->output);
        $this->assertStringContainsString('X-Page: yes', $script->headers);
    }

    /**
     * @return array<string, array{Sapi}>
     */
    public static function heads(): array
    {
        return [
            'php-fpm behind deferd' => [new Fpm(self::DEFERD + self::HEAD)],
            'php-fpm' => [new Fpm(self::HEAD)],
            'php-cgi behind deferd' => [new Cgi(self::DEFERD + self::HEAD)],
            'php-cgi' => [new Cgi(self::HEAD)],
            'php -S' => [new Server(method: 'HEAD')],
        ];
    }

    #[DataProvider('sapis')]
    public function testWritesTheSessionBeforeTheCallback(Sapi $sapi, bool $finishes, bool $reports): void
    {
        $script = Script::run(<<<'PHP'
            session_start();
            $_SESSION['seen'] = 1;
            $file = session_save_path() . '/sess_' . session_id();
            $defer->defer(function () use ($file): void {
                note(file_get_contents($file));
                note(session_status() === PHP_SESSION_NONE ? 'closed' : 'open');
            }, 'mail');
            PHP, [], $sapi);

        $this->assertSame(['seen|i:1;', 'closed'], $script->notes);
        $this->assertSame($reports ? self::STORY : [], $script->story());
    }

    #[DataProvider('sapis')]
    public function testWorksWhenTheHeadersAreSent(Sapi $sapi, bool $finishes, bool $reports): void
    {
        $script = Script::run(<<<'PHP'
            echo 'first';
            flush();
            note(headers_sent() ? 'sent' : 'not sent');
            echo ' second';
            $defer->defer(fn () => note('ran'), 'mail');
            $defer->run();
            PHP, ['output_buffering=0'], $sapi);

        $this->assertSame(['sent', 'ran'], $script->notes);
        $this->assertSame('first second', $script->response());
        $this->assertSame($reports ? self::STORY : [], $script->story());
        $this->assertSame('', $script->log);
    }

    #[DataProvider('sapis')]
    public function testABufferThatCannotBeRemovedIsLeftToPhp(Sapi $sapi, bool $finishes, bool $reports): void
    {
        $script = Script::run(<<<'PHP'
            ob_start(fn (string $output): string => strtoupper($output), 0, 0);
            echo 'page';
            $defer->defer(fn () => note('ran'), 'mail');
            $defer->run();
            note(var_export($defer->finishResponse(), true));
            PHP, [], $sapi);

        $native = $sapi instanceof Fpm;
        $this->assertSame(['ran', var_export($native, true)], $script->notes);
        $this->assertSame('PAGE', $script->output);
        $this->assertSame('', $script->log);
    }

    public function testRunsTheCallbackWhenTheClientHasGone(): void
    {
        $script = Script::run(<<<'PHP'
            register_shutdown_function(fn () => note(connection_aborted() ? 'aborted' : 'connected'));
            $defer->defer(fn () => note('over'), 'mail');
            echo str_repeat('x', 1 << 20);
            while (true) { echo 'x'; flush(); usleep(100); }
            PHP, [], new Server(leaves: true));

        $this->assertSame(['aborted', 'over'], $script->notes);
    }

    public function testFinishRequestIsPhpsOwnWithoutDeferd(): void
    {
        $script = Script::run(<<<'PHP'
            echo 'page';
            note(var_export(Deferd\FinishRequest::finish(), true));
            note(var_export(Deferd\FinishRequest::finish(), true));
            echo 'nobody';
            PHP, [], new Fpm());

        $this->assertSame(['true', 'false'], $script->notes);
        $this->assertSame('page', $script->output);
    }

    public function testFinishRequestWithinACallbackLeavesItSilent(): void
    {
        $script = Script::run(<<<'PHP'
            echo 'page';
            $defer->defer(function (): void {
                note(var_export(Deferd\FinishRequest::finish(), true));
                echo 'noise';
            });
            PHP, [], new Cgi());

        $this->assertSame(['false'], $script->notes);
        $this->assertSame('page', $script->output);
    }

    public function testFinishRequestBehindDeferd(): void
    {
        $script = Script::run(<<<'PHP'
            echo 'page';
            function cron(): void { note(var_export(Deferd\FinishRequest::finish(), true)); }
            cron();
            PHP, [], new Fpm(self::DEFERD));

        $this->assertSame(['true'], $script->notes);
        $this->assertSame('page', $script->response());
        $this->assertSame(['begin cron', 'start 0', 'done 0', 'end'], $script->story());
    }

    public function testStopsWhenDeferdSaysSo(): void
    {
        $stop = (string) tempnam(sys_get_temp_dir(), 'deferd-stop-');
        try {
            $params = self::DEFERD + ['DEFERD_STOP' => $stop];
            $script = Script::run('$defer->defer(fn () => note("ran"), "mail");', [], new Fpm($params));
        } finally {
            unlink($stop);
        }

        $this->assertSame([], $script->notes);
        $this->assertSame(['begin mail', 'skip 0: stopped', 'end'], $script->story());
    }

    /**
     * Its output callback carries the reports.
     */
    public function testATimeLimitAtTheEndOfTheRequestIsReportedInPhpFpm(): void
    {
        $script = Script::run(<<<'PHP'
            $defer->defer(function (): void { while (true); }, 'loop')->timeLimit(1);
            $defer->defer(fn () => note('next'), 'next');
            PHP, [], new Fpm(self::DEFERD));

        $this->assertSame([], $script->notes);
        $this->assertSame(
            ['begin loop, next', 'start 0', 'fail 0', 'skip 1: not run: fatal error in loop', 'end'],
            $script->story()
        );
    }

    public function testSkipsAfterAnErrorPage(): void
    {
        $script = Script::run(<<<'PHP'
            $defer = new Deferd\Defer(skipOnError: true);
            $defer->defer(fn () => note('ran'), 'mail');
            $defer->defer(fn () => note('always'), 'log')->always();
            throw new Exception('boo');
            PHP, [], new Fpm(self::DEFERD));

        $this->assertStringContainsString('500', $script->headers);
        $this->assertSame(['always'], $script->notes);
        $this->assertSame(
            ['begin mail, log', 'skip 0: status 500', 'start 1', 'done 1', 'end'],
            $script->story()
        );
    }
}
