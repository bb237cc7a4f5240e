"""php/polyfill.php: applications that know nothing of deferd, with two lines in php.ini."""

import json
import os
import re
import shutil
import subprocess
import urllib.request

import pytest
from harness import POLYFILLED, Address, FcgiClient, Fpm, Workspace, control, wait_until
from harness.address import local_address
from harness.daemon import REPOSITORY
from harness.process import Process


@pytest.fixture(name="polyfilled", scope="module")
def fixture_polyfilled():
    """A php-fpm whose php.ini has the two lines, for all tests that do it no harm."""
    with Workspace() as workspace, Fpm(workspace, workers=4, php_ini=POLYFILLED) as fpm:
        yield fpm


class Unmodified:
    """nginx, deferd and such a php-fpm in a row."""

    def __init__(self, workspace, nginx, master):
        self._workspace = workspace
        self.nginx = nginx
        self.deferd = master

    def uri(self, script, **query):
        query = {"marks": self._workspace.path("marks"), **query}
        return f"/{script}?" + "&".join(f"{name}={value}" for name, value in query.items())

    @property
    def marks(self):
        return self._workspace.lines("marks")

    def phases(self):
        """What deferctl list shows, oldest first."""
        return control(self.deferd.control, "list --all")

    def phase(self):
        """The one that there was, when it is over."""
        wait_until(lambda: self.phases() and self.phases()[0]["outcome"], what="a phase's end")
        (phase,) = self.phases()
        return phase

    def tasks(self):
        """Its outcome, and names and states of its tasks."""
        phase = self.phase()
        return phase["outcome"], [(task["name"], task["state"]) for task in phase["tasks"]]


@pytest.fixture(name="start_unmodified")
def fixture_start_unmodified(workspace, start_master, start_nginx):
    def start(fpm):
        master = start_master(fpm, max_workers=fpm.workers_wanted)
        return Unmodified(workspace, start_nginx(master), master)

    return start


@pytest.fixture(name="site")
def fixture_site(start_unmodified, polyfilled):
    return start_unmodified(polyfilled)


REST = r"after\.php:\d+"


def has_ended(site, outcome, *tasks):
    """One phase, with this outcome and these tasks: patterns of their names, and their states."""
    found, listed = site.tasks()
    assert found == outcome
    assert [state for _, state in listed] == [state for _, state in tasks]
    for (name, _), (pattern, _) in zip(listed, tasks):
        assert re.search(f"(^|/){pattern}$", name), name


# --- what is seen ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_response_ends_before_the_rest_which_is_one_task(site, gate, method):
    body = b"a=b" if method == "POST" else None
    uri = site.uri("after.php", gate=gate.path)
    response = site.nginx.request(method, uri, body)
    assert (response.status, response.text) == (200, "answered\n")
    wait_until(lambda: site.marks == ["true", "waits"], what="the rest begins")
    (phase,) = control(site.deferd.control, "list")
    assert (phase["state"], phase["pid"]) == ("running", int(response.header("x-pid")))
    assert [task["state"] for task in phase["tasks"]] == ["running"]
    gate.open()
    has_ended(site, "completed", (REST, "done"))
    assert site.marks == ["true", "waits", f"ran in {response.header('x-pid')}", "shut down"]
    request = site.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.done, request.failed) == ("completed", 1, 0)
    assert re.fullmatch(f"/.+/{REST}", request.tasks)


@pytest.mark.parametrize("caller", ["method", "shutdown", "destructor"])
def test_rest_has_the_name_of_the_method_that_called(site, caller):
    uri = site.uri("after.php", **{"from": caller})
    assert site.nginx.get(uri).text == "answered\n"
    has_ended(site, "completed", ("Report::send", "done"))
    assert site.deferd.wait_for_requests(1)[0].tasks == "Report::send"
    assert any(mark.startswith("ran in") for mark in site.marks)


def test_head_ends_in_time_and_the_rest_runs_unseen(site, gate):
    """PHP drops all output of a HEAD request, reports too."""
    response = site.nginx.head(site.uri("after.php", gate=gate.path))
    assert response.status == 200
    wait_until(lambda: site.marks == ["true", "waits"], what="the rest begins")
    gate.open()
    request = site.deferd.wait_for_requests(1)[0]
    assert request.outcome == "unreported"
    assert site.marks[2:] == [f"ran in {response.header('x-pid')}", "shut down"]


def test_uncaught_exception_is_a_failure(site):
    assert site.nginx.get(site.uri("after.php", what="throw")).text == "answered\n"
    has_ended(site, "failed", (REST, "failed"))
    assert re.search("RuntimeException: no paper", site.phase()["tasks"][0]["error"])
    assert site.marks == ["true", "shut down"]


def test_fatal_error_is_a_failure(site):
    assert site.nginx.get(site.uri("after.php", what="fatal")).text == "answered\n"
    has_ended(site, "failed", (REST, "failed"))
    assert "Fatal error" in site.phase()["tasks"][0]["error"]


def test_exit_is_an_end_as_any_other(site):
    assert site.nginx.get(site.uri("after.php", what="exit")).text == "answered\n"
    has_ended(site, "completed", (REST, "done"))
    assert site.marks == ["true", "shut down"]


def test_defer_in_the_same_request_belongs_to_the_same_phase(site):
    assert site.nginx.get(site.uri("with_defer.php")).text == "answered\n"
    has_ended(site, "completed", ("before", "done"), ("after", "done"))
    assert site.marks == ["true", "the rest", "deferred before", "deferred after"]


def test_stand_in_for_wordpress_cron(site, gate):
    response = site.nginx.get(site.uri("wordpress/wp-cron.php", gate=gate.path))
    assert (response.status, response.body) == (200, b"")
    gate.open()
    has_ended(site, "completed", (r"wp-cron\.php:\d+", "done"))
    assert site.marks == ["event ran"]


# --- as PHP's own does ----------------------------------------------------------------------------


def test_open_output_buffers_are_ended(site):
    assert site.nginx.get(site.uri("after.php", what="buffers")).text == "ANSWERED\n"
    has_ended(site, "completed", (REST, "done"))


def test_buffer_that_cannot_be_removed_keeps_the_response_until_the_end(site):
    assert site.nginx.get(site.uri("after.php", what="stuck")).text == "answered\n"
    assert site.deferd.wait_for_requests(1)[0].outcome == "answered"
    assert site.marks[0] == "false"
    assert site.marks[-1] == "shut down"


def test_second_call_is_false(site):
    assert site.nginx.get(site.uri("after.php", what="twice")).text == "answered\n"
    has_ended(site, "completed", (REST, "done"))
    assert site.marks[:2] == ["true", "false"]


def test_output_and_headers_reach_nobody(site):
    for what in ("print", "late"):
        response = site.nginx.get(site.uri("after.php", what=what))
        assert (response.status, response.text) == (200, "answered\n")
        assert response.header("x-late") is None
    wait_until(lambda: site.marks.count("shut down") == 2, what="the rest of both")
    wait_until(lambda: len(site.phases()) == 2 and all(p["outcome"] for p in site.phases()),
               what="two phases' end")
    for phase in site.phases():
        assert [task["state"] for task in phase["tasks"]] == ["done"]


def test_what_looks_like_a_report_is_none(site):
    """An application may print what its visitors have sent."""
    site.nginx.get(site.uri("after.php", what="reports"))
    has_ended(site, "completed", (REST, "done"))
    assert site.phase()["pid"] != 1
    assert site.deferd.wait_for_requests(1)[0].pid != 1


def test_state_that_the_rest_sees(site):
    """The connection is all right, and of output buffers there is one, which drops what is printed."""
    site.nginx.get(site.uri("after.php", what="status"))
    wait_until(lambda: "shut down" in site.marks, what="the rest")
    assert site.marks[1] == "0 1"


def test_session_stays_open(site, workspace):
    """What is written into it afterwards is kept, and the next request sees it."""
    uri = site.uri("after.php", what="session", session="polyfilled")
    assert site.nginx.get(uri).header("x-session") == "[]"
    assert site.nginx.get(uri).header("x-session") == '{"late":true}'


def test_client_that_leaves_changes_nothing(site, gate):
    uri = site.uri("after.php", gate=gate.path, what="print")
    with site.nginx.socket() as sock:
        sock.sendall(f"GET {uri} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: "waits" in site.marks, what="the rest begins")
    gate.open()
    has_ended(site, "completed", (REST, "done"))
    assert site.marks[-1] == "shut down"


def test_death_of_deferd_changes_nothing(site, gate):
    """Without a reader for what it prints, the rest still runs to its end."""
    pid = site.nginx.get(site.uri("after.php", gate=gate.path, what="print")).header("x-pid")
    wait_until(lambda: "waits" in site.marks, what="the rest begins")
    killed = site.deferd.kill_worker()
    wait_until(lambda: killed not in site.deferd.worker_pids(), what="deferd's end")
    gate.open()
    wait_until(lambda: site.marks[2:] == [f"ran in {pid}", "shut down"], what="the rest's end")


# --- what it loads --------------------------------------------------------------------------------


def loaded(site, **query):
    """Whether the response was ended, and from which folders classes of ours came."""
    assert site.nginx.get(site.uri("loaded.php", finish=1, **query)).text == "answered\n"
    wait_until(lambda: any(mark.startswith("globals") for mark in site.marks), what="all marks")
    files = [mark.split(" ")[1] for mark in site.marks if mark.startswith("Deferd\\")]
    return "true" in site.marks, {os.path.dirname(file) for file in files}


def composer_autoload(workspace, folder):
    """The autoload.php that Composer makes for an application with our namespace in this folder."""
    directory = workspace.make_directory("application")
    workspace.write("application/composer.json",
                    json.dumps({"autoload": {"psr-4": {"Deferd\\": f"{folder}/"}}}))
    subprocess.run(["composer", "dump-autoload", "--no-interaction"], cwd=directory, check=True,
                   stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                   env={**os.environ, "COMPOSER_ALLOW_SUPERUSER": "1"})
    return f"{directory}/vendor/autoload.php"


OLD = r"""<?php
namespace Deferd;
final class Defer
{
    public function finishResponse(): bool
    {
        \mark('ended by another version');
        return true;
    }
}
"""

STERN = r"""<?php
spl_autoload_register(static function (string $class): void {
    mark("asked for $class");
    require __DIR__ . '/' . strtr($class, '\\', '/') . '.php';
});
"""


def test_request_that_does_not_call_it_loads_nothing(site):
    site.nginx.get(site.uri("loaded.php"))
    assert site.marks == ["autoloaders 0", "globals "]


def test_classes_come_from_its_own_folder(site):
    assert loaded(site) == (True, {str(REPOSITORY / "php" / "src")})


def test_autoloader_that_fails_for_other_classes_is_not_asked(site, workspace):
    """As old applications have them."""
    file = workspace.write("stern.php", STERN)
    assert loaded(site, require=file) == (True, {str(REPOSITORY / "php" / "src")})
    assert not any(mark.startswith("asked") for mark in site.marks)


def test_package_that_composer_has_is_used(site, workspace):
    folder = workspace.path("package")
    shutil.copytree(REPOSITORY / "php" / "src", folder)
    file = composer_autoload(workspace, folder)
    assert loaded(site, require=file) == (True, {folder})
    assert site.tasks()[0] == "completed"


@pytest.mark.parametrize("by", ["composer", "require"])
def test_package_that_knows_no_polyfill_ends_the_response_itself(site, workspace, by):
    folder = workspace.make_directory("package")
    file = workspace.write("package/Defer.php", OLD)
    if by == "composer":
        file = composer_autoload(workspace, folder)
    assert loaded(site, require=file) == (True, {folder})
    assert "ended by another version" in site.marks


# --- without deferd, and without php-fpm ----------------------------------------------------------


@pytest.mark.parametrize("what", ["", "buffers", "exit"])
def test_straight_to_php_fpm_nothing_can_end_the_response(start_nginx, polyfilled, workspace, what):
    nginx = start_nginx(polyfilled)
    response = nginx.get(f"/after.php?what={what}&marks={workspace.path('marks')}")
    assert response.text == ("ANSWERED\n" if what == "buffers" else "answered\n")
    assert workspace.lines("marks")[0] == "false"
    assert workspace.lines("marks")[-1] == "shut down"


def test_straight_to_php_fpm_the_client_can_have_the_output_before_the_rest(
    polyfilled, workspace, gate, script
):
    with FcgiClient(polyfilled.address) as client:
        uri = f"/after.php?gate={gate.path}&marks={workspace.path('marks')}"
        client.send_request(uri=uri, script=script("after.php"))
        while b"answered\n" not in client.read_stdout(1):
            pass
        wait_until(lambda: "waits" in workspace.lines("marks"), what="the rest begins")
        gate.open()
        assert client.read_response().complete


def run(workspace, *arguments, env=None):
    return subprocess.run([*arguments], capture_output=True, text=True, timeout=20, check=False,
                          cwd=workspace.directory, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(env or {})})


SETTINGS = [f"-d{name}={value}" for name, value in POLYFILLED.items()]
SAYS = "<?php var_dump(function_exists('fastcgi_finish_request')); echo PHP_SAPI, \"\\n\";"


@pytest.mark.parametrize(("program", "sapi"), [("php", "cli"), ("php-cgi", "cgi-fcgi")])
def test_other_programs_do_not_notice(workspace, program, sapi):
    file = workspace.write("says.php", SAYS)
    env = {"SCRIPT_FILENAME": file, "REDIRECT_STATUS": "1", "REQUEST_METHOD": "GET"}
    result = run(workspace, program, *SETTINGS, file, env=env if program == "php-cgi" else None)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith(f"bool(false)\n{sapi}\n")


def test_php_web_server_does_not_notice(workspace):
    workspace.write("says.php", SAYS)
    with Address(host="127.0.0.1").listen() as found:
        port = local_address(found).port
    server = Process()
    try:
        server.spawn(["php", *SETTINGS, "-S", f"127.0.0.1:{port}", "-t", workspace.directory])
        server.wait_for_line("started")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/says.php", timeout=10) as response:
            assert response.read() == b"bool(false)\ncli-server\n"
    finally:
        server.end()


def test_php_whose_own_function_is_there_keeps_it(start_fpm, start_unmodified):
    php_ini = {"auto_prepend_file": POLYFILLED["auto_prepend_file"]}
    site = start_unmodified(start_fpm(workers=1, php_ini=php_ini))
    assert site.nginx.get(site.uri("loaded.php", finish=1)).text == "answered\n"
    wait_until(lambda: len(site.marks) == 3, what="all marks")
    assert site.marks[:2] == ["true", "autoloaders 0"]
    assert site.deferd.wait_for_requests(1)[0].outcome == "answered"


# --- nothing changed at all -----------------------------------------------------------------------


@pytest.fixture(name="native")
def fixture_native(start_unmodified, shared_fpm):
    """A php-fpm with its own function; connections to it are kept from the beginning."""
    site = start_unmodified(shared_fpm)
    wait_until(lambda: control(site.deferd.control, "pools")[0]["upstreams"][0]["keeps"] == "yes",
               what="connections can be kept")
    return site


def busy(site):
    return control(site.deferd.control, "status")["busy"]


@pytest.mark.parametrize(
    ("method", "outcome"), [("GET", "answered"), ("POST", "answered"), ("HEAD", "unreported")]
)
def test_with_phps_own_function_the_rest_is_seen_without_a_body(native, gate, method, outcome):
    """That it goes on, and how long; the worker is taken until then."""
    response = native.nginx.request(method, native.uri("after.php", gate=gate.path))
    assert response.text == ("" if method == "HEAD" else "answered\n")
    wait_until(lambda: native.marks == ["true", "waits"], what="the rest begins")
    wait_until(lambda: control(native.deferd.control, "list"), what="the phase is listed")
    (phase,) = control(native.deferd.control, "list")
    assert (phase["state"], phase["tasks"], busy(native)) == ("running", [], 1)
    gate.open()
    request = native.deferd.wait_for_requests(1)[0]
    assert native.marks[-1] == "shut down"
    assert (request.outcome, request.done) == (outcome, 0)
    assert request.deferred_ms > 0


def test_with_phps_own_function_the_rest_is_not_seen_with_a_body(native, gate):
    """php-fpm closes the connection: to deferd the worker is free, and the request over."""
    assert native.nginx.post(native.uri("after.php", gate=gate.path), b"a=b").text == "answered\n"
    request = native.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.deferred_ms) == ("answered", None)
    assert (control(native.deferd.control, "list"), busy(native)) == ([], 0)
    wait_until(lambda: native.marks == ["true", "waits"], what="the rest goes on")
    gate.open()
    wait_until(lambda: "shut down" in native.marks, what="its end")


# --- several pools, and frameworks ----------------------------------------------------------------


@pytest.mark.time_limit(60)
def test_pools_that_share_an_opcache(start_fpm, start_unmodified, start_nginx, script, workspace):
    """No worker may crash (fact 25): the same scripts, compiled once, run in both pools."""
    fpm = start_fpm(workers=2, others=["other"], php_ini={**POLYFILLED, "opcache.enable": "1"})
    site = start_unmodified(fpm)
    straight = start_nginx(fpm.other("other"))
    pids = set(fpm.workers())
    for _ in range(50):
        for nginx in (site.nginx, straight):
            assert nginx.get(site.uri("after.php")).text == "answered\n"
            assert nginx.get("/hello.php").text == "hello\n"
    wait_until(lambda: site.marks.count("shut down") == 100, what="the rest of all")
    assert (site.marks.count("true"), site.marks.count("false")) == (50, 50)
    assert set(fpm.workers()) == pids
    assert not fpm.has_line("exited on signal")
