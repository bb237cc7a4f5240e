"""Laravel behind nginx, deferd and php-fpm: with the package, and knowing nothing of deferd.

The steps that the applications defer write to a file that the test holds locked, the gate: so the
response is known to have come before them, and nothing has to be timed.
"""

import contextlib
import json
import os
import pathlib
import subprocess

import pytest
from harness import POLYFILLED, App, Fpm, Workspace, deferctl, wait_until

# Composer brings Laravel before the first test.
pytestmark = pytest.mark.time_limit(300)

STEPS = ["first", "second"]

PHP = pathlib.Path(__file__).resolve().parent / "php"
ROUTES = PHP / "laravel_routes.php"
DEFER_ROUTES = PHP / "laravel_defer_routes.php"


@contextlib.contextmanager
def _application(name, *more_routes, php_ini=None):
    """An application and a php-fpm for it, with further lines in its php.ini if there are any."""
    with Workspace() as workspace:
        app = App(workspace, name)
        with open(app.directory / "routes" / "web.php", "a", encoding="utf-8") as routes:
            routes.writelines(f"\nrequire '{file}';\n" for file in more_routes)
        with Fpm(workspace, workers=4, php_ini=php_ini) as fpm:
            yield app, fpm


@pytest.fixture(name="example", scope="module")
def fixture_example():
    with _application("laravel", ROUTES, DEFER_ROUTES) as example:
        yield example


@pytest.fixture(name="unaware", scope="module")
def fixture_unaware():
    """Nothing of the application is changed; the two lines are in php.ini."""
    with _application("laravel-unaware", ROUTES, php_ini=POLYFILLED) as unaware:
        yield unaware


class Laravel:
    """An application's site."""

    def __init__(self, app, nginx, gate, master=None):
        self.app = app
        self.nginx = nginx
        self.master = master
        self._gate = gate

    def request(self, method, uri, **options):
        separator = "&" if "?" in uri else "?"
        return self.nginx.request(method, f"{uri}{separator}ms=0", **options)

    def get(self, uri, **options):
        return self.request("GET", uri, **options)

    def steps(self):
        """(pid, name) of the steps that were taken."""
        lines = pathlib.Path(self._gate.path).read_text("utf-8").splitlines()
        return [(int(pid), name) for pid, name in (line.split(" ", 1) for line in lines)]

    def names(self):
        return [name for _, name in self.steps()]

    def wait_for_steps(self, *names):
        wait_until(lambda: self.names() == list(names), what=f"steps {names}, not {self.names()}")

    def phases(self):
        result = deferctl("-s", self.master.control, "list", "--all", "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def tasks(self):
        """{name: state} of the only phase, in the order of the announcements."""
        phases = self.phases()
        assert len(phases) < 2
        return {task["name"]: task["state"] for phase in phases for task in phase["tasks"]}

    def text(self, name):
        """The last text of a task of the only phase: why it was skipped, for example."""
        (phase,) = self.phases()
        (task,) = [task for task in phase["tasks"] if task["name"] == name]
        return task["text"]

    def ended(self):
        """The log's line of the only request, once that is over."""
        (request,) = self.master.wait_for_requests(1)
        return request

    def log(self):
        """What Laravel has logged."""
        path = self.app.directory / "storage" / "logs" / "laravel.log"
        return path.read_text("utf-8") if path.exists() else ""


@pytest.fixture(name="serve")
def fixture_serve(workspace, start_master, gate):
    def serve(application, behind_deferd=True):
        app, fpm = application
        (app.directory / "storage" / "logs" / "laravel.log").unlink(missing_ok=True)
        master = None
        if behind_deferd:
            stop = workspace.make_directory("stop")
            master = start_master(fpm, options={"stop_dir": stop, "log_level": "debug"})
        location = f"fastcgi_param DEMO_LOG {gate.path};\n"
        nginx = app.serve(workspace, master.address if master else fpm.address, location)
        return Laravel(app, workspace.enter(nginx), gate, master)

    return serve


@pytest.fixture(name="laravel")
def fixture_laravel(serve, example):
    return serve(example)


@pytest.fixture(name="nothing_changed")
def fixture_nothing_changed(serve, unaware):
    return serve(unaware)


def test_version(example, capsys):
    version = example[0].version("laravel/framework")
    with capsys.disabled():
        print(f"\nLaravel {version}, PHP {Fpm.version()}")
    assert version.lstrip("v").split(".")[0] in ("12", "13")


# --- the package's Defer -------------------------------------------------------------------------

KINDS = {
    "get": ("GET", "/get", 200, "a page\n"),
    "post": ("POST", "/post", 201, "some text\n"),
    "204": ("GET", "/no-content", 204, ""),
    "302": ("GET", "/redirect", 302, None),
    "stream": ("GET", "/stream", 200, "".join(f"part {part}\n" for part in range(1, 6))),
    "long": ("GET", "/compressed", 200, "a line of text, compressed well\n" * 1000),
    "error page": ("GET", "/error", 500, None),
    "exit": ("GET", "/exit", 200, "left early\n"),
    "head": ("HEAD", "/get", 200, ""),
}


def exchange(laravel, kind):
    method, uri, status, text = KINDS[kind]
    form = {"body": "text=some+text",
            "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    response = laravel.request(method, uri, **(form if method == "POST" else {}))
    assert response.status == status
    if text is not None:
        assert response.text == text
    return response


@pytest.mark.parametrize("kind", KINDS)
def test_response_comes_before_the_callbacks(laravel, gate, kind):
    exchange(laravel, kind)
    assert laravel.steps() == []
    assert laravel.master.requests == []
    gate.open()
    request = laravel.ended()
    laravel.wait_for_steps(*STEPS)
    assert len({pid for pid, _ in laravel.steps()}) == 1
    if kind == "head":
        assert request.outcome == "unreported"
    else:
        assert (request.outcome, request.done, request.failed) == ("completed", 2, 0)
        assert {pid for pid, _ in laravel.steps()} == {request.pid}
        assert laravel.tasks() == {"first": "done", "second": "done"}


def test_running_callback_is_named(laravel, gate):
    laravel.get("/get")
    wait_until(lambda: laravel.tasks() == {"first": "running", "second": "waiting"})
    gate.open()
    assert laravel.ended().done == 2


def test_nothing_deferred_is_no_task(laravel):
    assert laravel.get("/plain").text == "nothing deferred\n"
    request = laravel.ended()
    assert (request.done or 0, request.failed or 0, request.skipped or 0) == (0, 0, 0)
    assert [phase["tasks"] for phase in laravel.phases()] in ([], [[]])


def test_failing_callback_is_reported_to_laravel_and_the_next_one_runs(laravel, gate):
    gate.open()
    assert laravel.get("/throws").status == 200
    request = laravel.ended()
    assert (request.outcome, request.done, request.failed) == ("failed", 2, 1)
    assert laravel.names() == STEPS
    assert laravel.tasks() == {"first": "done", "failing": "failed", "second": "done"}
    cause = laravel.master.wait_for_cause("the mail server is away")
    assert '"failing"' in cause.text
    assert "RuntimeException" in cause.text
    assert "the mail server is away" in laravel.log()


def test_configured_to_skip_on_error_it_keeps_back_what_is_not_always(laravel, gate):
    gate.open()
    assert laravel.get("/more/error").status == 500
    request = laravel.ended()
    assert (request.outcome, request.done, request.skipped) == ("completed", 1, 1)
    assert laravel.names() == ["second"]
    assert laravel.text("first") == "status 500"


def test_next_request_of_the_session_does_not_wait(laravel, gate):
    first = laravel.get("/session")
    cookie = first.header("set-cookie").split(";")[0]
    assert "session" in cookie
    second = laravel.get("/session", headers={"Cookie": cookie})
    assert (first.text, second.text) == ("1\n", "2\n")
    assert laravel.steps() == []
    gate.open()
    assert [request.outcome for request in laravel.master.wait_for_requests(2)] == ["completed"] * 2


def test_stop_skips_what_has_not_started(laravel, gate):
    laravel.get("/get")
    wait_until(lambda: laravel.tasks().get("first") == "running")
    (phase,) = laravel.phases()
    assert deferctl("-s", laravel.master.control, "stop", phase["id"]).returncode == 0
    gate.open()
    assert laravel.ended().outcome == "stopped"
    assert laravel.names() == ["first"]


def test_all_ways_to_get_at_it_are_one(laravel, gate):
    gate.open()
    assert laravel.get("/more/ways").text == "same"
    laravel.ended()
    assert laravel.tasks() == {"app": "done", "array": "done", "facade": "done", "typed": "done"}


# --- Laravel's own -------------------------------------------------------------------------------

OWN = {
    "App\\Http\\Middleware\\CountVisit::terminate": "visit",
    "reindex": "deferred",
    "App\\Jobs\\SendReport": "report for ann",
    "App\\Http\\Controllers\\OwnController::cleanUp": "clean up",
}


@pytest.fixture(name="either", params=["laravel", "nothing_changed"])
def fixture_either(request):
    """The example, and the application that knows nothing of deferd."""
    return request.getfixturevalue(request.param)


def test_laravels_own_work_is_seen_by_name(either, gate):
    assert either.get("/own").text == "Laravel's own\n"
    assert either.steps() == []
    first = next(iter(OWN))
    wait_until(lambda: either.tasks() == {name: "waiting" for name in OWN} | {first: "running"})
    gate.open()
    request = either.ended()
    assert (request.outcome, request.done, request.failed) == ("completed", 4, 0)
    assert request.tasks == ", ".join(OWN)
    assert list(either.tasks().items()) == [(name, "done") for name in OWN]
    assert either.names() == list(OWN.values())
    assert {pid for pid, _ in either.steps()} == {request.pid}


def test_after_an_error_laravel_calls_what_is_always(either, gate):
    gate.open()
    assert either.get("/own/error").status == 500
    request = either.ended()
    assert (request.outcome, request.done, request.skipped) == ("completed", 2, 1)
    assert either.names() == ["visit", "always"]
    tasks = either.tasks()
    assert (tasks["reindex"], tasks["alert"]) == ("skipped", "done")
    assert either.text("reindex") == "not called"


def test_laravel_reports_what_a_deferred_callback_throws(either, gate):
    gate.open()
    either.get("/own/throws")
    request = either.ended()
    assert (request.outcome, request.done, request.failed) == ("failed", 2, 1)
    assert either.names() == ["visit", "deferred"]
    assert '"reindex"' in either.master.wait_for_cause("the index is away").text
    assert either.log().count("RuntimeException(code: 0): the index is away") == 1


def test_what_a_terminating_callback_throws_ends_the_others(either, gate):
    gate.open()
    either.get("/more/throwing")
    request = either.ended()
    assert (request.outcome, request.failed, request.skipped) == ("failed", 1, 1)
    assert either.names() == []
    assert either.log().count("RuntimeException(code: 0): this one throws") == 1
    assert [task["text"] for task in either.phases()[0]["tasks"]][-1] == "not called"


def test_stop_skips_laravels_own(either, gate):
    either.get("/own")
    first, *others = OWN
    wait_until(lambda: either.tasks().get(first) == "running")
    (phase,) = either.phases()
    assert deferctl("-s", either.master.control, "stop", phase["id"]).returncode == 0
    gate.open()
    assert either.ended().outcome == "stopped"
    assert either.names() == ["visit"]
    assert {either.text(name) for name in others} == {"stopped"}


def test_every_kind_of_callback_has_a_name(either, gate):
    gate.open()
    either.get("/more/kinds")
    assert either.ended().outcome == "completed"
    lines = ROUTES.read_text("utf-8").splitlines()
    here = {line.rsplit("// ", 1)[1]: f"{ROUTES}:{number}"
            for number, line in enumerate(lines, 1) if "// closure" in line}
    assert list(either.tasks()) == [
        "LateMiddleware::terminate",
        here["closure 1"],
        "App\\Jobs\\SendReport",
        f"Closure ({pathlib.Path(here['closure 2']).name})",
        "Cleaner@sweep",
        "Cleaner::dust",
        "Cleaner::__invoke",
        here["closure 3"],
        "late deferred",
        here["closure 4"],
    ]
    assert set(either.tasks().values()) == {"done"}
    assert either.names() == ["middleware 7", "closure 1", "report for bob", "late deferred",
                              "closure 2", "sweep", "dust", "invoked", "closure 4"]


def test_middleware_is_the_applications_own_while_the_kernel_terminates(either, gate):
    gate.open()
    either.get("/more/middleware")
    assert either.ended().outcome == "completed"
    assert either.names() == ["same instance", "sub-request 200"]


def test_unknown_page_has_no_middleware_of_a_route(either, gate):
    gate.open()
    assert either.get("/nowhere").status == 404
    assert (either.ended().outcome, either.names()) == ("completed", ["nobody there"])
    assert list(either.tasks().values()) == ["done"]


@pytest.mark.parametrize("kind", set(KINDS) - {"error page", "exit"})
def test_nothing_changed_at_all(nothing_changed, gate, kind):
    assert not (nothing_changed.app.directory / "vendor" / "deferd").exists()
    exchange(nothing_changed, kind)
    assert nothing_changed.steps() == []
    gate.open()
    request = nothing_changed.ended()
    nothing_changed.wait_for_steps(*STEPS)
    if kind == "head":
        assert request.outcome == "unreported"
    else:
        assert (request.outcome, request.done) == ("completed", 2)
        assert request.tasks == "first, second"
        assert nothing_changed.tasks() == {"first": "done", "second": "done"}


# --- without deferd ------------------------------------------------------------------------------


def test_controller_that_ends_the_response_itself_is_a_task(nothing_changed, gate):
    assert nothing_changed.get("/more/itself").text == "early\n"
    line = ROUTES.read_text("utf-8").split("// itself")[0].count("\n") + 1
    wait_until(lambda: list(nothing_changed.tasks().values()) == ["running"])
    assert list(nothing_changed.tasks()) == [f"{ROUTES}:{line}"]
    gate.open()
    assert nothing_changed.ended().done >= 1
    assert "afterwards" in nothing_changed.names()


@pytest.mark.parametrize("kind", set(KINDS))
def test_straight_php_fpm(serve, example, gate, kind):
    laravel = serve(example, behind_deferd=False)
    exchange(laravel, kind)
    assert laravel.steps() == []
    gate.open()
    laravel.wait_for_steps(*STEPS)


@pytest.mark.parametrize("application", ["example", "unaware"])
def test_laravels_own_on_straight_php_fpm(serve, request, gate, application):
    laravel = serve(request.getfixturevalue(application), behind_deferd=False)
    if application == "unaware":
        # The polyfill cannot end a response there; php.ini has taken that away.
        gate.open()
    laravel.get("/own")
    gate.open()
    laravel.wait_for_steps(*OWN.values())


def console(app, workspace, code):
    """What a program prints that has the application's console kernel."""
    head = """<?php
        require 'vendor/autoload.php';
        $app = require 'bootstrap/app.php';
        $app->make(Illuminate\\Contracts\\Console\\Kernel::class)->bootstrap();
    """
    script = workspace.write("console.php", head + code)
    environment = {**os.environ, "DEMO_LOG": workspace.path("steps")}
    run = subprocess.run(["php", script], cwd=app.directory, capture_output=True, text=True,
                         check=False, timeout=60, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_queue_job_runs_what_it_deferred(example, workspace):
    code = """
        use Illuminate\\Queue\\Events\\JobAttempted;
        app('defer')->defer(fn () => fwrite(STDOUT, 'deferred '));
        event(new JobAttempted('sync', null));
        fwrite(STDOUT, 'sync ');
        event(new JobAttempted('redis', null));
        fwrite(STDOUT, 'redis');
    """
    assert console(example[0], workspace, code) == "sync deferred redis"


def test_command_runs_what_it_deferred(example, workspace):
    code = """
        Artisan::command('defers', function (): void {
            app('defer')->defer(fn () => fwrite(STDOUT, 'deferred '));
            fwrite(STDOUT, 'command ');
        });
        Artisan::call('defers');
        fwrite(STDOUT, 'over');
    """
    assert console(example[0], workspace, code) == "command deferred over"


# What a feature test of Laravel's does with a request.
VISIT = """
    function visit($app): void
    {
        $kernel = $app->make(Illuminate\\Contracts\\Http\\Kernel::class);
        $request = Illuminate\\Http\\Request::create('/get?ms=0');
        $response = $kernel->handle($request);
        fwrite(STDOUT, $response->getContent());
        $kernel->terminate($request, $response);
    }
"""


def test_feature_test_runs_what_a_request_deferred(example, workspace):
    code = VISIT + """
        visit($app);
        fwrite(STDOUT, str_replace(getmypid() . ' ', '', file_get_contents(getenv('DEMO_LOG'))));
    """
    assert console(example[0], workspace, code) == "a page\nfirst\nsecond\n"


def test_feature_test_looks_at_what_a_request_deferred(example, workspace):
    code = VISIT + """
        $fake = Defer::fake();
        visit($app);
        fwrite(STDOUT, implode(', ', $fake->names()));
        Defer::runDeferred();
        fwrite(STDOUT, '; ' . count($fake) . ' wait');
    """
    assert console(example[0], workspace, code) == "a page\nfirst, second; 0 wait"
    assert [line.split(" ")[1] for line in workspace.lines("steps")] == STEPS
