"""Symfony behind real nginx, deferd and php-fpm: with the bundle, and an application that knows
nothing of deferd."""

import json
import shutil
import subprocess

import pytest
from harness import POLYFILLED, Fifo, Fpm, Workspace, deferctl, wait_until
from harness.apps import APPS, App

# The first test waits for Composer.
pytestmark = pytest.mark.time_limit(300)

COMPONENTS = ["framework-bundle", "config", "dependency-injection", "error-handler",
              "event-dispatcher", "http-foundation", "http-kernel", "routing"]

# What composer.json says on top.
VERSIONS = {
    "6.4": {"require": {f"symfony/{name}": "6.4.*" for name in COMPONENTS}},
    "7.4": {"require": {**{f"symfony/{name}": "7.4.*" for name in COMPONENTS},
                        "deferd-tests/symfony-shim": "*"}},
}

DEBUG = {"APP_ENV": "dev", "APP_DEBUG": "1"}

# method, path, status, body (None: something)
RESPONSES = [
    ("GET", "/get", 200, b"got\n"),
    ("POST", "/post", 200, b'{"posted":{"a":"b"}}'),
    ("HEAD", "/get", 200, b""),
    ("GET", "/no-content", 204, b""),
    ("GET", "/redirect", 302, None),
    ("GET", "/stream", 200, b"".join(b"line %d\n" % number for number in range(1, 6))),
    ("GET", "/file", 200, None),
    ("GET", "/compressed", 200, b"to be compressed\n" * 4000),
    ("GET", "/error", 500, None),
    ("GET", "/exit", 200, b"left\n"),
]

# Two more environments of the example: with a listener of its own, and with the bundle's option.
AUDITED = """\
services:
    audit:
        class: Audit
        file: '%kernel.project_dir%/Audit.php'
        tags: [{name: kernel.event_listener, event: kernel.terminate, method: __invoke}]
"""

AUDIT = """\
<?php

final class Audit
{
    public function __invoke(object $event): void
    {
        $log = getenv('DEMO_LOG');
        $trace = fn ($what) => file_put_contents($log, getmypid() . " $what\\n", FILE_APPEND);
        $trace('audited');
        register_shutdown_function(
            fn () => $trace($event->isPropagationStopped() ? 'called by us' : 'called by Symfony')
        );
    }
}
"""

STRICT = """\
when@strict:
    defer:
        skip_on_error: true

    services:
        alert:
            class: Alert
            file: '%kernel.project_dir%/Alert.php'
            arguments: ['@Deferd\\Defer']
            tags: [{name: kernel.event_listener, event: kernel.exception, method: __invoke}]
"""

ALERT = """\
<?php

final class Alert
{
    public function __construct(private readonly Deferd\\Defer $defer)
    {
    }

    public function __invoke(): void
    {
        $this->defer->defer(fn () => null, 'alert')->always();
    }
}
"""

SEND = "App\\EventSubscriber\\MailSubscriber::send"
UPDATE = "App\\EventListener\\SearchIndex::update"
CLEAN_UP = "App\\EventSubscriber\\MailSubscriber::cleanUp"


@pytest.fixture(name="place", scope="module")
def fixture_place():
    with Workspace() as workspace:
        yield workspace


@pytest.fixture(name="install", scope="module", params=VERSIONS)
def fixture_install(request):
    """install("symfony"): the application, with its packages; says which Symfony that is."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    with Workspace() as workspace:

        def install(name):
            app = App(workspace, name, VERSIONS[request.param])
            with capture.global_and_fixture_disabled():
                print(f"\n{name}: Symfony {app.version('symfony/framework-bundle')}")
            return app

        yield install


@pytest.fixture(name="example", scope="module")
def fixture_example(install):
    app = install("symfony")
    shutil.copy(APPS / "symfony-unaware" / "public" / "runtime.php", app.public)
    for name, text in {"config/services_audited.yaml": AUDITED, "Audit.php": AUDIT,
                       "config/packages/defer.yaml": STRICT, "Alert.php": ALERT}.items():
        (app.directory / name).write_text(text, "utf-8")
    return app


@pytest.fixture(name="unaware", scope="module")
def fixture_unaware(install):
    return install("symfony-unaware")


@pytest.fixture(name="fpm", scope="module")
def fixture_fpm(place):
    """PHP's own fastcgi_finish_request() ends a program that then prints more than 8 KiB, as an
    error page in debug mode is, unless it ignores a user's abort. Behind deferd it goes on."""
    with Fpm(place, workers=4, ini={"ignore_user_abort": "1"}) as fpm:
        yield fpm


@pytest.fixture(name="polyfilled", scope="module")
def fixture_polyfilled(place):
    """A php-fpm with two more lines in its php.ini."""
    with Fpm(place, workers=4, php_ini=POLYFILLED, name="polyfilled") as fpm:
        yield fpm


class Site:
    """An application behind nginx, with or without deferd. Its log, DEMO_LOG, holds it back at the
    first line until it has answered."""

    def __init__(self, app, workspace, upstream, deferd, script, params):
        self.deferd = deferd
        name = "behind" if deferd else "direct"
        self.log = workspace.enter(Fifo(workspace.path(f"log-{name}")))
        # Of a param that is there twice, the last counts.
        params = {"SCRIPT_FILENAME": f"{app.public}/{script}", "DEMO_LOG": self.log.path, **params}
        lines = "".join(f"            fastcgi_param {param} {value};\n"
                        for param, value in params.items())
        nginx = app.serve(workspace, upstream, lines, name=f"nginx-{name}")
        self.nginx = workspace.enter(nginx)

    def visit(self, uri, method="GET", body=None, headers=None):
        """The response, which waited for nothing that is logged."""
        # A first request makes Symfony's cache.
        response = self.nginx.request(method, uri, body, headers, timeout=30.0)
        self.log.open()
        return response

    def request(self, outcome="completed"):
        """The only request, when it is over."""
        request = self.deferd.wait_for_requests(1)[0]
        assert request.outcome == outcome
        return request

    def pids(self):
        return {int(line.split(" ")[0]) for line in self.log.lines()}

    def events(self):
        return [line.split(" ", 1)[1] for line in self.log.lines()]

    def phases(self):
        """What deferctl lists."""
        return json.loads(deferctl("-s", self.deferd.control, "list", "--all", "--json").stdout)

    def tasks(self):
        """[(name, state, why or error), …] of the only phase."""
        [phase] = self.phases()
        return [(task["name"], task["state"], task["text"] or task["error"])
                for task in phase["tasks"]]

    def names(self):
        return [(name, state) for name, state, _text in self.tasks()]


@pytest.fixture(name="serve")
def fixture_serve(workspace, start_master):
    """serve(app, fpm): it behind nginx and deferd; with direct=True without deferd."""

    def serve(app, fpm, direct=False, script="index.php", params=None):
        deferd = None if direct else start_master(fpm)
        upstream = (deferd or fpm).address
        return Site(app, workspace, upstream, deferd, script, params or {})

    return serve


@pytest.fixture(name="site")
def fixture_site(serve, example, fpm):
    return serve(example, fpm)


# --- the bundle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method, path, status, body", RESPONSES,
                         ids=[f"{method} {path}" for method, path, _, _ in RESPONSES])
def test_response_comes_first_then_each_callback_once_in_the_same_worker(
    site, method, path, status, body
):
    form = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
    response = site.visit(f"{path}?ms=0", method, b"a=b" if form else None, form)
    assert response.status == status
    assert response.body == body if body is not None else response.body
    request = site.request("unreported" if method == "HEAD" else "completed")
    assert request.status == status
    assert site.events() == ["first", "second"]
    assert len(site.pids()) == 1
    if method != "HEAD":
        assert (request.done, request.failed, request.skipped) == (2, 0, 0)
        assert site.pids() == {request.pid}
        assert site.names() == [("first", "done"), ("second", "done")]
        assert request.tasks == "first, second"


def test_request_that_defers_nothing_takes_no_place_in_the_list(site):
    assert site.visit("/plain").text == "nothing deferred\n"
    request = site.request()
    assert (request.done, request.failed, request.skipped) == (0, 0, 0)
    assert site.phases() == []


def test_callback_that_throws_is_reported_and_the_others_run(site, place):
    assert site.visit("/throws?ms=0").text == "got\n"
    request = site.request("failed")
    assert (request.done, request.failed) == (2, 1)
    assert site.deferd.has_line('"mail" failed: RuntimeException: the mail server is away')
    assert site.names() == [("mail", "failed"), ("first", "done"), ("second", "done")]
    # By Symfony's logger, which ends there where no other is installed.
    log = place.read("fpm/php.log")
    assert "[error] deferred mail failed: RuntimeException: the mail server is away" in log


def test_session_is_there_in_the_next_request_which_does_not_wait(site):
    first = site.nginx.get("/session?ms=0", timeout=30.0)
    second = site.visit("/session?ms=0", headers={"Cookie": first.cookies})
    assert [first.text, second.text] == ["1\n", "2\n"]
    for request in site.deferd.wait_for_requests(2):
        assert (request.outcome, request.done) == ("completed", 2)


def test_callbacks_are_skipped_after_an_error_if_configured(serve, example, fpm):
    site = serve(example, fpm, params={"APP_ENV": "strict"})
    assert site.visit("/error?ms=0").status == 500
    site.request()
    assert site.tasks() == [("first", "skipped", "status 500"), ("second", "skipped", "status 500"),
                            ("alert", "done", None)]
    assert site.events() == []


@pytest.mark.parametrize("script", ["index.php", "runtime.php"])
@pytest.mark.parametrize("debug", ["0", "1"])
def test_own_listeners_of_the_application_are_seen(serve, example, fpm, script, debug):
    """symfony/runtime in debug mode lets the client wait for them: that is no deferred work, and
    none of our business."""
    site = serve(example, fpm, script=script, params={"APP_ENV": "audited", "APP_DEBUG": debug})
    waits = script == "runtime.php" and debug == "1"
    if waits:
        site.log.open()
    assert site.visit("/get?ms=0").text == "got\n"
    site.request()
    assert site.events() == ["audited", "first", "second",
                             "called by Symfony" if waits else "called by us"]
    seen = [] if waits else [("Audit::__invoke", "done")]
    assert site.names() == [("first", "done"), ("second", "done"), *seen]


def test_without_deferd_the_response_comes_first_too(serve, example, fpm):
    site = serve(example, fpm, direct=True)
    assert site.visit("/get?ms=0").text == "got\n"
    wait_until(lambda: site.events() == ["first", "second"], what="both callbacks")


@pytest.fixture(name="run_program")
def fixture_run_program(example, workspace):
    """run_program(code): the lines that a program with the example's kernel writes to stderr."""

    def run_program(code):
        program = workspace.write("program.php", f"""<?php
            require '{example.directory}/vendor/autoload.php';
            function say(string $line): void {{ fwrite(STDERR, "$line\\n"); }}
            $kernel = new App\\Kernel('prod', false);
            $kernel->boot();
            $container = $kernel->getContainer();
            {code}
        """)
        run = subprocess.run(["php", program], capture_output=True, text=True, check=True,
                             timeout=60)
        return run.stderr.splitlines()

    return run_program


def test_program_on_the_command_line_runs_callbacks_at_each_reset(run_program):
    """As messenger's consumer resets the services after each message."""
    assert run_program("""
        foreach (['one', 'two'] as $message) {
            $container->get('defer')->defer(fn () => say("callback of $message"));
            say("end of $message");
            $container->get('services_resetter')->reset();
        }
        say('end');
    """) == ["end of one", "callback of one", "end of two", "callback of two", "end"]


def test_test_of_an_application_puts_a_fake_into_the_container(run_program):
    assert run_program("""
        $container->set(Deferd\\Defer::class, $fake = Deferd\\Defer::fake());
        $request = Symfony\\Component\\HttpFoundation\\Request::create('/get');
        $kernel->terminate($request, $kernel->handle($request));
        foreach ($fake->names() as $name) {
            say($name);
        }
    """) == ["first", "second"]


# --- an application that knows nothing of deferd -------------------------------------------------

QUERIES = ["", "closure=1", "fail=1", "stop=1", "exit=1", "closure=1&fail=1"]


@pytest.mark.parametrize("params", [{}, DEBUG], ids=["prod", "debug"])
@pytest.mark.parametrize("query", QUERIES)
def test_listeners_do_as_without_deferd(serve, unaware, polyfilled, fpm, query, params):
    """The same listeners constructed and called, in the same order, to the same end."""
    direct = serve(unaware, fpm, direct=True, params=params)
    behind = serve(unaware, polyfilled, params=params)
    expected, response = [site.visit(f"/get?ms=0&{query}") for site in (direct, behind)]
    assert (response.status, response.body) == (expected.status, expected.body)
    behind.request("failed" if "fail" in query or "exit" in query else "completed")
    wait_until(lambda: direct.events() == behind.events(),
               what=f"{direct.events()} to be {behind.events()}")
    assert len(behind.events()) >= 3
    updates = [event for event in behind.events() if "index updated" in event]
    assert all(("Traceable" in event) == bool(params) for event in updates)


@pytest.mark.parametrize("params", [{}, DEBUG], ids=["prod", "debug"])
@pytest.mark.parametrize("method, path", [("GET", "/get"), ("POST", "/post")])
def test_listeners_of_an_unaware_application_are_seen(
    serve, unaware, polyfilled, method, path, params
):
    site = serve(unaware, polyfilled, params=params)
    body = b"x=y" if method == "POST" else None
    response = site.visit(f"{path}?ms=0&closure=1", method, body)
    assert response.text == "answered\n"
    request = site.request()
    assert (request.done, request.failed) == (4, 0)
    assert site.pids() == {request.pid} == {int(response.header("x-pid"))}
    controller = unaware.directory / "src" / "Controller" / "PageController.php"
    line = 1 + next(number for number, text in enumerate(controller.read_text().splitlines())
                    if "addListener" in text)
    names = [SEND, f"{controller}:{line}", UPDATE, CLEAN_UP]
    assert request.tasks == ", ".join(names)
    assert site.names() == [(name, "done") for name in names]


def test_listener_that_throws_is_reported_and_those_behind_it_are_skipped(
    serve, unaware, polyfilled
):
    """Symfony 6.4 then terminates once more, with the error page that it made of the exception."""
    site = serve(unaware, polyfilled)
    assert site.visit("/get?ms=0&fail=1").text == "answered\n"
    request = site.request("failed")
    rounds = sum("index updated" in event for event in site.events())
    assert (request.done, request.failed, request.skipped) == (rounds, rounds, rounds)
    assert site.deferd.has_line(r'SearchIndex::update" failed: RuntimeException: The index is away')
    assert site.names() == [(SEND, "done"), (UPDATE, "failed"), (CLEAN_UP, "skipped")] * rounds
    assert {text for name, _state, text in site.tasks() if name == CLEAN_UP} == {"not called"}


def test_listeners_behind_one_that_stops_the_event_are_skipped(serve, unaware, polyfilled):
    site = serve(unaware, polyfilled)
    assert site.visit("/get?ms=0&stop=1").text == "answered\n"
    site.request()
    assert site.names() == [(SEND, "done"), (UPDATE, "skipped"), (CLEAN_UP, "skipped")]


def test_listener_that_exits_is_reported_and_those_behind_it_are_skipped(
    serve, unaware, polyfilled
):
    site = serve(unaware, polyfilled)
    assert site.visit("/get?ms=0&exit=1").text == "answered\n"
    site.request("failed")
    assert site.names() == [(SEND, "done"), (UPDATE, "failed"), (CLEAN_UP, "skipped")]


def test_response_from_symfonys_own_cache_has_no_tasks(serve, unaware, polyfilled, place):
    site = serve(unaware, polyfilled, script="cache.php")
    for done in (3, 0):
        assert site.visit("/get?ms=0&cached=1").text == "answered\n"
        assert site.deferd.wait_for_request(done=done).outcome == "completed"
    assert site.events().count("sent first") == 1
    assert "deferd: could not" not in place.read("polyfilled/php.log")


def test_unaware_application_under_the_runtime_is_seen(serve, unaware, polyfilled):
    site = serve(unaware, polyfilled, script="runtime.php")
    assert site.visit("/get?ms=0").text == "answered\n"
    site.request()
    assert site.names() == [(SEND, "done"), (UPDATE, "done"), (CLEAN_UP, "done")]


def test_bundle_and_polyfill_together_report_once(serve, example, polyfilled):
    site = serve(example, polyfilled)
    assert site.visit("/get?ms=0").text == "got\n"
    site.request()
    assert site.names() == [("first", "done"), ("second", "done")]
    assert site.events() == ["first", "second"]
