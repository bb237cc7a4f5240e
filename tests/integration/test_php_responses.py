"""Real nginx, real php-fpm: every kind of response is complete before its deferred work ends."""

import hashlib
import http.client
import os
import time
import zlib

import pytest
from harness import Background, Fpm, Workspace, wait_until

LARGE = b"".join(bytes([number % 256]) * 1024 for number in range(1024))

# kind: status, body
KINDS = {
    "plain": (200, b"a plain body\n"),
    "length": (200, b"a plain body\n"),
    "empty": (200, b""),
    "204": (204, b""),
    "304": (304, b""),
    "302": (302, b""),
    "500": (500, b"an error page\n"),
    "flushed": (200, b"a plain body\n"),
    "buffered": (200, b"a plain body\n"),
    "compressed": (200, b"a plain body\n"),
    "large": (200, LARGE),
    "exit": (200, b"a plain body\n"),
    "marker-like": (200, b"\x1eDEFERD/1 END " + b"0" * 32 + b"\n\x1eDEFERD/1 END "),
}

SETTINGS = {
    "plain": {},
    "output_buffering": {"output_buffering": "4096"},
    "compression": {"zlib.output_compression": "1"},
    "both": {"zlib.output_compression": "4096", "output_buffering": "4096"},
    "implicit_flush": {"implicit_flush": "1"},
}


@pytest.fixture(name="fpm", scope="module", params=SETTINGS)
def fixture_fpm(request):
    with Workspace() as workspace, Fpm(workspace, workers=4, ini=SETTINGS[request.param]) as fpm:
        yield fpm


@pytest.fixture(name="tuned")
def fixture_tuned(start_site, fpm):
    """A site whose php-fpm has one of the settings."""
    site = start_site(fpm, log_level="debug")
    site.wait_until_kept()
    return site


@pytest.fixture(name="browse")
def fixture_browse(releases):
    """browse(nginx, method, uri): a visitor who stays connected, as browsers do."""

    def browse(nginx, method, uri, **options):
        connection = nginx.connect(timeout=5.0)
        releases.append(connection.close)
        return nginx.request(method, uri, connection=connection, **options)

    return browse


def uri(script, gate, workspace, **query):
    query = {"gate": gate.path, "marks": workspace.path("marks"), **query}
    return f"/{script}?" + "&".join(f"{name}={value}" for name, value in query.items())


def decoded(response):
    if response.body and response.header("content-encoding") in ("gzip", "deflate"):
        return zlib.decompress(response.body, 47)
    return response.body


def wait_for_marks(workspace, *expected):
    wait_until(lambda: workspace.lines("marks") == list(expected), what=f"marks {expected}")


def assert_deferred_work_follows(site, gate, workspace, response, wanted="completed"):
    """It has not run, and does when the gate opens, in the same worker."""
    pid = int(response.header("x-pid"))
    assert pid in site.fpm.workers()
    assert workspace.read("marks") == ""
    assert site.deferd.requests == []
    gate.open()
    request = site.deferd.wait_for_requests(1)[0]
    wait_for_marks(workspace, f"ran in {pid}")
    assert request.outcome == wanted
    if wanted == "completed":
        assert (request.done, request.failed, request.pid) == (1, 0, pid)
    return request


@pytest.mark.parametrize("run", ["run", "at the end"])
@pytest.mark.parametrize("kind", KINDS)
def test_response_is_complete_before_the_callback_ends(tuned, browse, gate, workspace, kind, run):
    query = {"kind": kind, **({"run": 1} if run == "run" else {})}
    response = browse(tuned.nginx, "GET", uri("kinds.php", gate, workspace, **query),
                      headers={"Accept-Encoding": "gzip"})
    status, body = KINDS[kind]
    assert response.status == status
    assert decoded(response) == body
    if kind == "large" and response.header("content-encoding"):
        return assert_native_end(tuned, gate, workspace, response)
    assert_deferred_work_follows(tuned, gate, workspace, response)


def assert_native_end(site, gate, workspace, response):
    """A compression buffer that has passed something on cannot be removed any more.

    So no marker gets out; PHP's own fastcgi_finish_request() ends the response, and of what is done
    behind it deferd sees only that its worker is not free before.
    """
    assert workspace.read("marks") == ""
    assert site.deferd.requests == []
    assert_worker_is_busy_until(site, gate.open)
    wait_for_marks(workspace, f"ran in {response.header('x-pid')}")


def assert_worker_is_busy_until(site, end):
    """The response is there; deferd knows that its worker is not free before end() was called.

    With Content-Length the browser has it before deferd has seen its end.
    """
    site.deferd.wait_for_line("request 1: running to deferred")
    begun = time.monotonic()
    end()
    held = (time.monotonic() - begun) * 1000
    request = site.deferd.wait_for_requests(1)[0]
    assert request.outcome == "answered"
    assert request.deferred_ms >= held


@pytest.mark.parametrize("run", ["run", "at the end"])
@pytest.mark.parametrize("kind", ["plain", "302", "304", "buffered", "large"])
def test_head_is_answered_before_the_callback_ends(tuned, browse, gate, workspace, kind, run):
    query = {"kind": kind, **({"run": 1} if run == "run" else {})}
    response = browse(tuned.nginx, "HEAD", uri("kinds.php", gate, workspace, **query))
    assert (response.status, response.body) == (KINDS[kind][0], b"")
    assert_deferred_work_follows(tuned, gate, workspace, response, "unreported")


def test_visitor_who_leaves_as_soon_as_the_announced_length_has_come(
    start_site, shared_fpm, gate, workspace
):
    """Before the marker it is as without deferd: nginx gives it up. The work is done even so."""
    site = start_site(shared_fpm, {"location": "fastcgi_buffering off;\n"})
    response = site.nginx.get(uri("slow.php", gate, workspace, length=6, defer=1), timeout=5.0)
    assert response.body == b"a part"
    assert site.deferd.wait_for_requests(1)[0].outcome == "client_gone"
    gate.open()
    wait_for_marks(workspace, "waits", "woke", "deferred")


def test_buffer_that_cannot_be_removed_falls_back_to_phps_own_function(site, gate, workspace):
    response = site.nginx.get(uri("kinds.php", gate, workspace, kind="stuck%20buffer", run=1))
    assert response.text == "a plain body\n"
    assert workspace.read("marks") == ""
    gate.open()
    wait_for_marks(workspace, f"ran in {response.header('x-pid')}")
    assert site.deferd.wait_for_requests(1)[0].outcome == "answered"


@pytest.mark.parametrize("deferd", [True, False], ids=["with deferd", "without"])
def test_fastcgi_finish_request_works_as_without_deferd(
    start_site, start_nginx, shared_fpm, gate, workspace, deferd
):
    site = start_site(shared_fpm, log_level="debug") if deferd else None
    if deferd:
        site.wait_until_kept()
    nginx = site.nginx if deferd else start_nginx(shared_fpm, keepalive=0)
    response = nginx.get(uri("finish.php", gate, workspace), timeout=5.0)
    assert response.text == "finished natively\n"
    wait_for_marks(workspace, "finished")
    if deferd:
        assert_worker_is_busy_until(site, gate.open)
    else:
        gate.open()
    wait_for_marks(workspace, "finished", f"ran in {response.header('x-pid')}")


@pytest.mark.parametrize("keepalive", ["yes", "no"])
def test_plain_script_is_answered(start_site, shared_fpm, keepalive):
    """On a kept connection it takes a moment more until its worker is known to be free."""
    site = start_site(shared_fpm, keepalive=keepalive, log_level="debug")
    if keepalive == "yes":
        site.wait_until_kept()
    response = site.nginx.get("/hello.php")
    assert response.text == "hello\n"
    request = site.deferd.wait_for_request("/hello.php")
    assert (request.status, request.outcome) == (200, "answered")
    assert (request.deferred_ms is None) == (keepalive == "no")


def test_missing_script_is_404(site):
    assert site.nginx.get("/missing.php").status == 404
    assert site.deferd.wait_for_request("/missing.php").status == 404


def test_tasks_run_in_order_and_are_counted(site, workspace, gate):
    response = site.nginx.get(uri("tasks.php", gate, workspace, tasks="ok,fail,add,ok"))
    assert response.text == "answered\n"
    request = site.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.done, request.failed) == ("failed", 4, 1)
    assert request.pid == int(response.header("x-pid"))
    assert workspace.lines("marks") == ["ok 0", "ok 3", "added by 2"]
    assert any("no 1" in cause and "fail 1" in cause for cause in site.deferd.causes_of(request))


def test_what_a_task_prints_reaches_nobody(site, workspace, gate):
    response = site.nginx.get(uri("tasks.php", gate, workspace, tasks="print,ok"))
    assert response.text == "answered\n"
    request = site.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.done) == ("completed", 2)


def test_error_stream_reaches_nginx_while_the_client_waits(site):
    assert site.nginx.get("/stderr.php").text == "said\n"
    site.nginx.wait_for_line("FastCGI sent in stderr.*said while running")


def test_error_stream_reaches_deferd_in_the_deferred_phase(site, workspace, gate):
    site.nginx.get(uri("tasks.php", gate, workspace, tasks="stderr"))
    request = site.deferd.wait_for_requests(1)[0]
    assert request.outcome == "completed"
    site.deferd.wait_for_line(rf"request {request.number}\b.*said by 0")
    assert not site.nginx.has_line("said by")


def test_next_request_on_the_same_connection_does_not_wait_for_deferred_work(site, gate, workspace):
    connection = site.nginx.connect(timeout=5.0)
    connection.request("GET", uri("kinds.php", gate, workspace, kind="plain"))
    first = connection.getresponse()
    assert first.read() == b"a plain body\n"
    sock = connection.sock
    connection.request("GET", "/hello.php")
    assert connection.sock is sock
    second = connection.getresponse()
    assert second.read() == b"hello\n"
    connection.close()
    assert second.getheader("x-pid") != first.getheader("x-pid")


@pytest.mark.parametrize(
    "nginx",
    [{}, {"location": "fastcgi_request_buffering off; fastcgi_buffering off;\n"}, {"keepalive": 0}],
    ids=["buffered", "unbuffered", "no keepalive"],
)
@pytest.mark.parametrize("size", [0, 1, 65535, 1 << 20])
def test_upload_and_download_are_byte_exact(start_site, shared_fpm, nginx, size):
    site = start_site(shared_fpm, nginx)
    body = os.urandom(size)
    for _ in range(3):
        response = site.nginx.post("/echo.php", body)
        assert response.status == 200
        assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


def test_parallel_uploads_do_not_mix(site):
    bodies = [bytes([number]) * (200000 + number) for number in range(16)]
    calls = [Background(site.nginx.post, "/echo.php", body) for body in bodies]
    for call, body in zip(calls, bodies):
        assert call.result().body == body


def test_part_of_a_response_arrives_before_the_rest(start_site, shared_fpm, gate, workspace):
    site = start_site(shared_fpm, {"location": "fastcgi_buffering off;\n"})
    connection = site.nginx.connect()
    connection.request("GET", uri("slow.php", gate, workspace, part=1))
    response = connection.getresponse()
    assert response.read(6) == b"a part"
    gate.open()
    assert response.read() == b" and the rest"
    connection.close()


def test_head_and_get_alternate_on_a_kept_connection(site):
    connection: http.client.HTTPConnection = site.nginx.connect()
    for _ in range(20):
        for method, body in (("HEAD", b""), ("GET", b"hello\n")):
            connection.request(method, "/hello.php")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, body)
    connection.close()
    site.deferd.wait_for_requests(40)
