"""Both directions pass as they come, byte for byte, and no slow side makes deferd grow."""

import hashlib
import random

import pytest
from harness import Background, fcgi, wait_until
from harness.daemon import sanitized

HEAD = b"Content-Type: application/octet-stream\r\n\r\n"
MEGABYTE = 1 << 20
# What deferd may grow by for one request, whatever a side does. It holds no
# more than a few buffers; the allocator's own slack is in it too.
BOUND_KB = 1024


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Growth:
    """How much a deferd grew from here on, at its peak."""

    def __init__(self, deferd):
        self._deferd = deferd
        self._before = deferd.peak_rss_kb()

    def assert_at_most(self, kilobytes):
        if not sanitized():
            assert self._deferd.peak_rss_kb() - self._before <= kilobytes


@pytest.fixture(name="growth")
def fixture_growth(deferd, peer, connect):
    """Measured after a first request, which touches pages that any request needs."""
    client = connect(deferd)
    serving = Background(lambda: peer.accept_request().answer(noise(300000)))
    client.send_request("POST", "/warm", noise(300000), keep=True)
    assert client.read_response().complete
    serving.result()
    client.close()
    return Growth(deferd)


def test_parts_arrive_one_by_one(peer, client):
    client.send_request()
    connection = peer.accept_request()
    connection.stdout(HEAD + b"one")
    assert client.read_stdout(len(HEAD) + 3) == HEAD + b"one"
    connection.stdout(b"t")
    assert client.read_stdout(1) == b"t"
    connection.stdout(b"wo")
    assert client.read_stdout(2) == b"wo"
    connection.end()
    assert client.read_response().complete


def test_headers_arrive_before_there_is_a_body(peer, client):
    client.send_request()
    connection = peer.accept_request()
    connection.stdout(HEAD)
    assert client.read_stdout(len(HEAD)) == HEAD
    connection.answer(b"", b"")
    client.read_response()


def test_stderr_arrives_before_the_end(peer, client):
    client.send_request()
    connection = peer.accept_request()
    connection.stderr(b"careful")
    record = client.read_record()
    assert (record.type, record.content) == (fcgi.STDERR, b"careful")
    connection.answer()
    assert client.read_response().complete


def test_parts_of_an_upload_arrive_one_by_one(peer, client):
    client.start("POST", body_length=6)
    connection = peer.accept()
    connection.read_params()
    for part in (b"one", b"t", b"wo"):
        client.stdin(part)
        assert connection.read_stdin(len(part)) == part
    client.end_stdin()
    assert connection.read_stdin() == b""
    connection.answer()
    assert client.read_response().complete


def test_response_may_begin_before_the_upload_ends(peer, client):
    client.start("POST", body_length=6)
    client.stdin(b"abc")
    connection = peer.accept()
    connection.read_params()
    assert connection.read_stdin(3) == b"abc"
    connection.stdout(HEAD + b"got abc")
    assert client.read_stdout(len(HEAD) + 7)
    client.stdin(b"def")
    client.end_stdin()
    assert connection.read_stdin() == b"def"
    connection.end()
    assert client.read_response().complete


@pytest.mark.parametrize("chunk", [100, 8184, 65528, 65535])
def test_megabyte_of_response(peer, client, chunk):
    body = noise(MEGABYTE)
    client.send_request()
    connection = peer.accept_request()
    connection.stdout(HEAD)
    stream = fcgi.stream(fcgi.STDOUT, 1, body, chunk, padding=chunk % 8)
    sending = Background(connection.send, stream)
    sending_end = Background(lambda: (sending.result(), connection.end()))
    response = client.read_response()
    sending_end.result()
    assert digest(response.body) == digest(body)
    assert response.complete


@pytest.mark.parametrize("chunk", [100, 8184, 32768, 65535])
def test_megabyte_of_upload(peer, client, chunk):
    body = noise(MEGABYTE)
    client.start("POST", body_length=len(body))
    connection = peer.accept()
    sending = Background(client.send, fcgi.stream(fcgi.STDIN, 1, body, chunk, padding=chunk % 8))
    assert digest(connection.read_request().stdin) == digest(body)
    sending.result()
    connection.answer()
    assert client.read_response().complete


def test_both_directions_at_once(deferd, peer, client, growth):
    upload, download = noise(8 * MEGABYTE, 2), noise(8 * MEGABYTE, 3)
    client.start("POST", body_length=len(upload))
    connection = peer.accept()
    connection.read_params()
    connection.stdout(HEAD)
    uploading = Background(client.send, fcgi.stream(fcgi.STDIN, 1, upload, 30000))
    receiving = Background(connection.read_stdin)

    def send_download():
        connection.send(fcgi.stream(fcgi.STDOUT, 1, download, 30000))
        receiving.result()
        connection.end()

    downloading = Background(send_download)
    response = client.read_response()
    uploading.result()
    downloading.result()
    assert digest(connection.request.stdin) == digest(upload)
    assert digest(response.body) == digest(download)
    assert response.complete
    growth.assert_at_most(BOUND_KB)


@pytest.mark.parametrize("chunk", [1000, 65535])
def test_slow_reader_slows_the_application_and_gets_every_byte(peer, client, growth, chunk):
    body = noise(32 * MEGABYTE)
    stream = fcgi.stream(fcgi.STDOUT, 1, body, chunk)[:-8]
    client.send_request()
    connection = peer.accept_request()
    connection.stdout(HEAD)
    taken = connection.send_until_blocked(stream)
    assert taken < 4 * MEGABYTE
    growth.assert_at_most(BOUND_KB)
    sending = Background(lambda: (connection.send(stream[taken:]), connection.end()))
    response = client.read_response()
    sending.result()
    assert digest(response.body) == digest(body)
    assert response.complete
    growth.assert_at_most(BOUND_KB)


def test_slow_application_slows_the_client_and_gets_every_byte(peer, client, growth):
    body = noise(32 * MEGABYTE)
    stream = fcgi.stream(fcgi.STDIN, 1, body, 20000)
    client.start("POST", body_length=len(body))
    connection = peer.accept()
    connection.read_params()
    taken = client.send_until_blocked(stream)
    assert taken < 4 * MEGABYTE
    growth.assert_at_most(BOUND_KB)
    sending = Background(client.send, stream[taken:])
    assert digest(connection.read_stdin()) == digest(body)
    sending.result()
    connection.answer()
    assert client.read_response().complete
    growth.assert_at_most(BOUND_KB)


def test_many_slow_readers(start_deferd, connect, peer):
    deferd = start_deferd(peer, max_workers=50)
    growth = Growth(deferd)
    stream = fcgi.stream(fcgi.STDOUT, 1, noise(4 * MEGABYTE), 30000)[:-8]
    pairs = []
    for _ in range(50):
        client = connect(deferd)
        client.send_request()
        connection = peer.accept_request()
        connection.stdout(HEAD)
        taken = connection.send_until_blocked(stream, quiet=0.02)
        assert taken < len(stream)
        pairs.append((client, connection, taken))
    growth.assert_at_most(50 * 256)
    for client, connection, taken in pairs:
        sending = Background(lambda c=connection, t=taken: (c.send(stream[t:]), c.end()))
        response = client.read_response()
        sending.result()
        assert digest(response.body) == digest(noise(4 * MEGABYTE))
    growth.assert_at_most(50 * 256)


def test_reader_that_is_slow_at_the_marker_gets_all_of_it(deferd, peer, client):
    body = noise(3 * MEGABYTE)
    client.send_request(uri="/slow")
    connection = peer.accept_request()
    data = HEAD + body + fcgi.marker(connection.request.token)
    stream = fcgi.stream(fcgi.STDOUT, 1, data, 8184)[:-8]
    taken = connection.send_until_blocked(stream)
    assert taken < len(stream)
    sending = Background(connection.send, stream[taken:])
    response = client.read_response()
    sending.result()
    assert digest(response.body) == digest(body)
    assert response.complete
    connection.report({"event": "begin", "pid": 1, "tasks": ["a"]})
    connection.finish_tasks()
    assert deferd.wait_for_request("/slow").outcome == "completed"


def test_reader_that_is_slow_does_not_hold_up_the_deferred_phase(deferd, peer, client):
    client.send_request(uri="/slow")
    connection = peer.accept_request()
    connection.answer_and_defer(b"x" * 100000)
    connection.finish_tasks()
    assert deferd.wait_for_request("/slow").outcome == "completed"
    response = client.read_response()
    assert (response.body, response.complete) == (b"x" * 100000, True)


def test_one_slow_reader_does_not_hold_up_another(deferd, peer, client, connect):
    client.send_request()
    slow = peer.accept_request()
    slow.stdout(HEAD)
    slow.send_until_blocked(fcgi.stream(fcgi.STDOUT, 1, noise(8 * MEGABYTE), 30000)[:-8], quiet=0.1)
    other = connect(deferd)
    other.send_request()
    peer.accept_request().answer(b"quick")
    assert other.read_response(timeout=2.0).body == b"quick"


def test_flood_after_the_marker_is_read_and_dropped(deferd, peer, client, growth):
    client.send_request(uri="/flood")
    connection = peer.accept_request()
    connection.answer_and_defer()
    assert client.read_response().complete
    connection.stdout(b"no newline in this " * MEGABYTE)
    connection.stdout(b"\n" + b"short\n" * MEGABYTE)
    for _ in range(100):
        connection.stderr(b"e" * 65535)
    # Lines are dropped while nobody takes them: the request's must not be one of those.
    wait_until(lambda: connection.stderr(b"all read") or deferd.has_line("all read"))
    connection.finish_tasks()
    request = deferd.wait_for_request("/flood", timeout=10.0)
    assert request.outcome == "completed"
    growth.assert_at_most(BOUND_KB)


def test_flood_of_tasks_is_bounded(deferd, peer, client, growth):
    client.send_request(uri="/flood")
    connection = peer.accept_request()
    connection.answer_and_defer()
    assert client.read_response().complete
    for _ in range(3000):
        connection.report({"event": "add", "tasks": ["n" * 100] * 70})
    connection.finish_tasks()
    deferd.wait_for_request("/flood", timeout=10.0)
    growth.assert_at_most(BOUND_KB)


def test_stderr_flood_before_the_headers_is_bounded(peer, client, growth):
    client.send_request()
    connection = peer.accept_request()
    stream = fcgi.stream(fcgi.STDERR, 1, noise(16 * MEGABYTE), 8000)[:-8]
    taken = connection.send_until_blocked(stream)
    assert taken < 4 * MEGABYTE
    growth.assert_at_most(BOUND_KB)
    sending = Background(lambda: (connection.send(stream[taken:]), connection.answer()))
    response = client.read_response()
    sending.result()
    assert digest(response.stderr) == digest(noise(16 * MEGABYTE))
    assert response.complete


def test_header_block_without_an_end_is_bounded(deferd, peer, client, growth):
    client.send_request(uri="/endless")
    connection = peer.accept_request()
    part = b"X-More: and more\r\n" * 3000
    sending = Background(lambda: [connection.stdout(part) for _ in range(200)])
    response = client.read_response()
    assert (response.status, response.complete) == (502, True)
    with pytest.raises(OSError):
        sending.result()
    request = deferd.wait_for_request("/endless")
    assert request.outcome == "upstream_failed"
    assert deferd.causes_of(request)
    growth.assert_at_most(BOUND_KB)


def test_large_header_block_passes(peer, client):
    """nginx has its own limit; what a framework's debug headers need is far below this."""
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 100) for number in range(150))
    client.send_request()
    peer.accept_request().answer(b"body", headers)
    assert client.read_response().stdout == headers + b"\r\nbody"
