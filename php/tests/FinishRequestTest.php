<?php

declare(strict_types=1);

namespace Deferd\Tests;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

/**
 * What a fastcgi_finish_request() written in PHP calls.
 */
final class FinishRequestTest extends TestCase
{
    public function testEndsTheResponseAndTheRestIsATask(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            session_start();
            ob_start();
            echo 'page';
            function shop_checkout(): void { note(var_export(Deferd\FinishRequest::finish(), true)); }
            shop_checkout();
            note(session_status() === PHP_SESSION_ACTIVE ? 'session open' : 'session closed');
            note(ignore_user_abort() === 1 ? 'goes on' : 'would be cut');
            note((string) ob_get_level());
            note(var_export(Deferd\FinishRequest::finish(), true));
            register_shutdown_function(fn () => print('stray'));
            PHP);

        $this->assertSame(['true', 'session open', 'goes on', '1', 'false'], $script->notes);
        $this->assertSame('page', $script->response());
        $this->assertSame(['begin shop_checkout', 'start 0', 'done 0', 'end'], $script->story());
    }

    /**
     * What an application prints may be what a visitor has sent.
     */
    public function testNothingPrintedAfterwardsIsTakenForAReport(): void
    {
        $fake = <<<'PHP'
            function fake(): void { echo "\n{\"event\":\"end\"}\n{\"event\":\"add\",\"tasks\":[\"fake\"]}\n"; }

            PHP;
        $rest = Script::runBehindDeferd($fake . <<<'PHP'
            final class Last { public function __destruct() { note('destructed'); fake(); } }
            $last = new Last();
            $watched = Deferd\Watch::callback('fake', 'watched');
            Deferd\FinishRequest::finish();
            fake();
            $watched();
            ob_start();
            fake();
            ob_end_flush();
            $defer->defer('fake', 'deferred');
            $defer->run();
            fake();
            register_shutdown_function('fake');
            ob_start();
            fake();
            PHP);

        $this->assertSame(['destructed'], $rest->notes);
        $this->assertSame(
            ['begin watched', 'start 0', 'done 0', 'add deferred', 'start 1', 'done 1', 'end'],
            $rest->story()
        );

        $main = Script::runBehindDeferd($fake . '$defer->finishResponse(); fake(); $defer->defer("fake", "deferred");');
        $this->assertSame(['begin deferred', 'start 0', 'done 0', 'end'], $main->story());
    }

    /**
     * @param string $code in PHP
     */
    #[DataProvider('callers')]
    public function testTheRestIsNamedAfterItsCaller(string $code, string $name): void
    {
        $script = Script::runBehindDeferd(
            'function fastcgi_finish_request(): bool { return Deferd\FinishRequest::finish(); }' . "\n$code"
        );

        $this->assertMatchesRegularExpression("~^begin $name$~", $script->story()[0] ?? '');
    }

    /**
     * @return array<string, array{string, string}>
     */
    public static function callers(): array
    {
        return [
            'PHP itself' => ['register_shutdown_function("fastcgi_finish_request");', 'rest'],
            'main code' => ['fastcgi_finish_request();', '/.+/script\.php:\d+'],
            'function' => ['function f() { fastcgi_finish_request(); } f();', 'f'],
            'method' => [
                'final class Cron { static function run() { fastcgi_finish_request(); } } Cron::run();',
                'Cron::run',
            ],
            'method of an anonymous class' => [
                '(new class { function run() { fastcgi_finish_request(); } })->run();',
                'class@anonymous::run',
            ],
            'closure' => ['(function () { fastcgi_finish_request(); })();', '/.+/script\.php:\d+'],
            'included file' => [
                'file_put_contents(__DIR__ . "/part.php", "<?php\n\nfastcgi_finish_request();"); '
                    . 'include __DIR__ . "/part.php";',
                '/.+/part\.php:3',
            ],
        ];
    }

    public function testWhatIsWatchedOrDeferredTakesThePlaceOfTheRest(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            $defer->defer(fn () => note('mail'), 'mail');
            (new Deferd\Defer())->defer(fn () => note('log'), 'log');
            Deferd\FinishRequest::finish();
            note('rest');
            $defer->run();
            note('more');
            PHP);

        $this->assertSame(['rest', 'mail', 'more', 'log'], $script->notes);
        $this->assertSame(
            ['begin mail, log', 'start 0', 'done 0', 'start 1', 'done 1', 'end'],
            $script->story()
        );
    }

    public function testARestThatIsWatchedElsewhereIsATaskOnlyIfItFails(): void
    {
        $good = Script::runBehindDeferd('Deferd\FinishRequest::finish(false);');
        $this->assertSame(['begin', 'end'], $good->story());

        $bad = Script::runBehindDeferd(
            'function f(): void { Deferd\FinishRequest::finish(false); } f(); no_such_function();'
        );
        $this->assertSame(['begin', 'add f', 'start 0', 'fail 0', 'end'], $bad->story());

        $innocent = Script::runBehindDeferd(<<<'PHP'
            function f(): void { Deferd\FinishRequest::finish(false); }
            f();
            Deferd\Watch::callback('time', 'watched')();
            no_such_function();
            PHP);
        $this->assertSame(
            ['begin', 'add watched', 'start 0', 'done 0', 'add f', 'start 1', 'fail 1', 'end'],
            $innocent->story()
        );

        $explained = Script::runBehindDeferd(
            'Deferd\FinishRequest::finish(false); Deferd\Watch::callback(fn () => no_such_function(), "watched")();'
        );
        $this->assertSame(['begin', 'add watched', 'start 0', 'fail 0', 'end'], $explained->story());
    }

    /**
     * @param string $end in PHP
     */
    #[DataProvider('ends')]
    public function testTheRestFailsWithAFatalErrorOnly(string $end, string $event): void
    {
        $script = Script::runBehindDeferd("Deferd\FinishRequest::finish(); $end", ['memory_limit=32M']);

        $this->assertSame(['begin', 'start', $event, 'end'], $script->events());
    }

    /**
     * @return array<string, array{string, string}>
     */
    public static function ends(): array
    {
        return [
            'exit' => ['exit;', 'done'],
            'an exception that a handler takes' => [
                'set_exception_handler(fn () => null); throw new Exception("boo");',
                'done',
            ],
            'an uncaught exception' => ['throw new Exception("boo");', 'fail'],
            'a fatal error' => ['str_repeat("x", 1 << 28);', 'fail'],
        ];
    }

    public function testDoesNothingWithinACallback(): void
    {
        $script = Script::runBehindDeferd(
            '$defer->defer(fn () => note(var_export(Deferd\FinishRequest::finish(), true))); $defer->run();'
        );

        $this->assertSame(['false'], $script->notes);
        $this->assertSame(['begin', 'start', 'done', 'end'], $script->events());
    }

    public function testIsFalseWhereTheResponseCannotBeEnded(): void
    {
        $script = Script::run('echo "page"; note(var_export(Deferd\FinishRequest::finish(), true)); echo " more";');

        $this->assertSame(['false'], $script->notes);
        $this->assertSame('page more', $script->output);
    }

    public function testHttpFoundationFindsItsOwn(): void
    {
        $script = Script::runBehindDeferd(<<<'PHP'
            require dirname(VENDOR, 2) . '/src/finish_request.php';
            require VENDOR;
            eval('function fastcgi_finish_request(): bool { note("not this one"); return true; }');
            $response = new Symfony\Component\HttpFoundation\Response('page');
            $response->send();
            note('after');
            PHP);

        $this->assertSame('page', $script->response());
        $this->assertSame(['after'], $script->notes);
        $this->assertSame(['begin', 'end'], $script->story());
    }
}
