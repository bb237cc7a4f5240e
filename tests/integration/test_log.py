"""The log: one line a request that a program can read, causes beside it, and nothing forged."""

import os
import re

import pytest
from harness import Deferd, FcgiClient, wait_until
from harness.client import encode_request
from harness.requestlog import LINE


def accepts(path):
    """A connection, or None while nobody listens."""
    try:
        return FcgiClient(path)
    except OSError:
        return None


def serve(deferd, peer, params, body=b"hello"):
    with FcgiClient(deferd.address) as client:
        client.send(encode_request(params))
        peer.accept_request().answer(body)
        assert client.read_response().complete


def test_every_line_has_time_and_level(start_deferd, peer):
    deferd = start_deferd(peer, log_level="debug")
    serve(deferd, peer, {"REQUEST_METHOD": "GET", "REQUEST_URI": "/a"})
    with FcgiClient(deferd.address) as client:
        client.send(b"\xff" * 10)
        client.wait_closed()
    deferd.wait_for_request("/a")
    deferd.stop()
    assert len(deferd.lines) > 3
    for line in deferd.lines:
        assert LINE.match(line), line


def test_ready_line_names_the_address(deferd):
    match = LINE.match(deferd.ready_line)
    assert match["level"] == "NOTICE"
    assert f"listening on unix:{deferd.address.path}" in deferd.ready_line


def test_plain_request(deferd, peer):
    serve(deferd, peer, {"REQUEST_METHOD": "PUT", "REQUEST_URI": "/a?b=c"})
    request = deferd.wait_for_request("/a?b=c")
    assert (request.method, request.status, request.outcome) == ("PUT", 200, "answered")
    assert (request.done, request.failed, request.skipped) == (0, 0, 0)
    assert (request.deferred_ms, request.pid) == (None, None)
    assert 0 <= request.queue_ms <= request.response_ms < 5000


def test_numbers_are_unique_and_grow(deferd, peer):
    for number in range(5):
        serve(deferd, peer, {"REQUEST_METHOD": "GET", "REQUEST_URI": f"/{number}"})
    numbers = [request.number for request in deferd.wait_for_requests(5)]
    assert numbers == sorted(set(numbers))


def test_status_of_the_application(deferd, peer):
    cases = [(b"Status: 404 Not Found\r\n", 404), (b"status:503\r\n", 503), (b"X-A: b\r\n", 200),
             (b"Location: http://a/\r\n", 302), (b"Status: 201 Created\r\nLocation: /a\r\n", 201)]
    for headers, status in cases:
        with FcgiClient(deferd.address) as client:
            client.send_request(uri=f"/{status}")
            peer.accept_request().answer(b"", headers)
            assert client.read_response().complete
        assert deferd.wait_for_request(f"/{status}").status == status


def test_deferred_request(deferd, peer, client):
    client.send_request(uri="/deferred")
    connection = peer.accept_request()
    connection.answer_and_defer(pid=1234, tasks=["a", "b", "c"])
    assert client.read_response().complete
    assert connection.silent(0.1)
    connection.report({"event": "done", "task": 0}, {"event": "fail", "task": 1, "error": "E: no"},
                      {"event": "skip", "task": 2, "why": ""}, {"event": "end"})
    connection.end()
    request = deferd.wait_for_request("/deferred")
    assert (request.done, request.failed, request.skipped) == (1, 1, 1)
    assert (request.pid, request.outcome) == (1234, "failed")
    assert request.deferred_ms >= 100
    assert request.response_ms < request.deferred_ms
    assert request.tasks == "a, b, c"


def test_names_of_tasks_cannot_break_the_line(deferd, peer, client):
    client.send_request(uri="/named")
    connection = peer.accept_request()
    names = ['"\n" outcome=forged', "App\\Mail::send"] + [f"{i:03}" + "x" * 120 for i in range(20)]
    connection.answer_and_defer(tasks=names)
    assert client.read_response().complete
    connection.end()
    request = deferd.wait_for_request("/named")
    assert request.tasks.startswith('"\n" outcome=forged, App\\Mail::send, 000xx')
    assert request.tasks.endswith("x...")
    assert len(request.tasks) <= 1024
    assert request.outcome == "lost"


def test_request_without_tasks_says_nothing_of_them(deferd, peer):
    serve(deferd, peer, {"REQUEST_METHOD": "GET", "REQUEST_URI": "/plain"})
    assert deferd.wait_for_request("/plain").tasks is None


URIS = {
    "quotes": '/"quoted"',
    "backslash": "/a\\b",
    "control characters": "/a\r\nb\t\0\x7f",
    "escape sequence": "/\x1b[31m",
    "bytes beyond ASCII": "/\xe4\xff",
    "blanks and equals": "/a status=500 outcome=forged",
    "forged line": '/"\n[21-Nov-2026 10:00:00.000] NOTICE: request=9 method=GET uri="/forged"',
    "percent signs": "/%s%n%d",
    "empty": "",
}


@pytest.mark.parametrize("kind", URIS)
def test_uri_cannot_break_the_line(deferd, peer, kind):
    serve(deferd, peer, {"REQUEST_METHOD": "GET", "REQUEST_URI": URIS[kind]})
    requests = deferd.wait_for_requests(1)
    assert len(requests) == 1
    assert requests[0].uri == URIS[kind]
    assert (requests[0].status, requests[0].outcome) == (200, "answered")
    assert not deferd.has_line(r"[\x00-\x1f\x7f-\xff]")


METHODS = ["GET status=500 outcome=forged", "G\nT", 'G"T', "", "M" * 10000]


@pytest.mark.parametrize("method", METHODS)
def test_method_cannot_break_the_line(deferd, peer, method):
    serve(deferd, peer, {"REQUEST_METHOD": method, "REQUEST_URI": "/m"})
    request = deferd.wait_for_request("/m")
    assert (request.status, request.outcome) == (200, "answered")


def test_request_without_method_and_uri(deferd, peer):
    serve(deferd, peer, {"NOTHING": "of it"})
    request = deferd.wait_for_requests(1)[0]
    assert request.method is None
    assert request.uri in (None, "")


def test_very_long_uri_leaves_the_line_whole(deferd, peer):
    serve(deferd, peer, {"REQUEST_METHOD": "GET", "REQUEST_URI": "/\x01" * 30000})
    request = deferd.wait_for_requests(1)[0]
    assert request.uri.startswith("/\x01/\x01")
    assert request.outcome == "answered"


def test_cause_names_its_request(deferd, peer, client):
    client.send_request("POST", "/broken")
    peer.accept().close()
    assert client.read_response().status == 502
    request = deferd.wait_for_request("/broken")
    causes = [cause for cause in deferd.causes if cause.number == request.number]
    assert causes
    assert causes[0].level in ("WARNING", "ERROR")
    assert peer.address.path in causes[0].text


@pytest.mark.parametrize(
    ("level", "notice", "cause"),
    [("alert", False, False), ("error", False, None), ("warning", False, True),
     ("notice", True, True), ("debug", True, True)],
)
def test_level_decides_what_is_logged(workspace, start_peer, level, notice, cause):
    """Without the ready line nobody can wait for it: the socket tells."""
    peer = start_peer()
    path = workspace.path("quiet.sock")
    deferd = Deferd(path, peer.address, log_level=level, keepalive="no")

    try:
        deferd.spawn(deferd.argv())
        with wait_until(lambda: accepts(path), what="it listens") as client:
            client.send_request("POST", "/broken")
            peer.accept().close()
            assert client.read_response().status == 502
        assert deferd.stop() == 0
    finally:
        deferd.end()
    deferd.check()
    assert bool(deferd.requests) == notice
    assert deferd.has_line("NOTICE") == notice
    if cause is not None:
        assert bool(deferd.causes) == cause
    assert deferd.has_line("DEBUG") == (level == "debug")


def test_token_is_never_logged(start_deferd, peer):
    deferd = start_deferd(peer, log_level="debug")
    with FcgiClient(deferd.address) as client:
        client.send_request(uri="/a")
        connection = peer.accept_request()
        token = connection.request.token
        connection.answer_and_defer()
        assert client.read_response().complete
        connection.finish_tasks()
        deferd.wait_for_request("/a")
    assert not deferd.has_line(re.escape(token))


def test_log_whose_reader_has_gone_does_not_stop_the_service(workspace, start_peer):
    peer = start_peer()
    path = workspace.path("deaf.sock")
    fifo = workspace.path("log")
    os.mkfifo(fifo)
    deferd = Deferd(path, peer.address, keepalive="no")
    log = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        deferd.spawn(["sh", "-c", 'exec "$@" 2>"$0"', fifo, *deferd.argv()])
        wait_until(lambda: accepts(path), what="it listens").close()
    finally:
        os.close(log)
    try:
        for _ in range(3):
            with FcgiClient(path) as client:
                client.send_request()
                peer.accept_request().answer(b"served")
                assert client.read_response().body == b"served"
        assert deferd.stop() == 0
    finally:
        deferd.end()
