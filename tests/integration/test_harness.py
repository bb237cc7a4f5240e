"""The harness itself: its codec, its two ends, and the real programs without deferd."""

import errno
import hashlib
import os

import pytest
from harness import Address, App, Background, DeadlinePassed, FcgiClient, FcgiPeer, Fifo, fcgi, proc
from harness.requestlog import parse_cause, parse_request


def test_pairs_survive_encoding_and_decoding():
    pairs = [(b"", b""), (b"A", b"x" * 127), (b"B", b"x" * 128), (b"A", b"\0\xff"),
             (b"n" * 300, b"v")]
    assert fcgi.decode_pairs(fcgi.encode_pairs(pairs)) == pairs
    assert fcgi.decode_pairs(fcgi.encode_pairs(pairs, long_form=True)) == pairs
    for cut in (1, 5, 100):
        with pytest.raises(ValueError):
            fcgi.decode_pairs(fcgi.encode_pairs(pairs)[:-cut])


def test_records_come_out_of_any_pieces():
    data = fcgi.begin_request(7) + fcgi.stream(fcgi.PARAMS, 7, b"x" * 700, chunk=300, padding=5)
    for size in (1, 3, 8, 9, len(data)):
        reader = fcgi.RecordReader()
        records = []
        for at in range(0, len(data), size):
            records += reader.feed(data[at:at + size])
        assert b"".join(record.encode() for record in records) == data
        assert reader.pending == 0


def test_client_and_peer_understand_each_other(start_peer):
    peer = start_peer()
    with FcgiClient(peer.address) as client:
        client.send_request("POST", "/x?y=1", body=b"abc" * 50000, id=300, keep=True)
        connection = peer.accept_request()
        request = connection.request
        assert (request.id, request.role, request.keep) == (300, fcgi.RESPONDER, True)
        assert request.params["REQUEST_URI"] == "/x?y=1"
        assert request.stdin == b"abc" * 50000
        connection.stderr(b"careful")
        connection.answer(b"\x1ebody", b"Status: 404 Not Found\r\nX-A: b\r\n")
        response = client.read_response(300)
        assert (response.status, response.headers["x-a"]) == (404, "b")
        assert (response.body, response.stderr) == (b"\x1ebody", b"careful")
        assert response.complete


def test_client_tells_a_broken_response_from_a_complete_one(start_peer):
    peer = start_peer()
    with FcgiClient(peer.address) as client:
        client.send_request()
        connection = peer.accept_request()
        connection.stdout(b"Content-Type: text/plain\r\n\r\npart")
        connection.close()
        response = client.read_response()
        assert not response.complete
        assert response.body == b"part"


def test_a_send_that_nobody_reads_is_noticed(start_peer):
    peer = start_peer()
    with FcgiClient(peer.address, timeout=0.2) as client:
        connection = peer.accept()
        client.send(b"x")
        with pytest.raises(DeadlinePassed):
            client.wait_read()
        assert connection.read_bytes() == b"x"
        client.wait_read()
        assert client.send_until_blocked(b"y" * 100000, quiet=0.05) >= 10000


def test_tcp_peer_finds_a_port_and_resets():
    with FcgiPeer("127.0.0.1:0") as peer, FcgiClient(peer.address) as client:
        peer.accept().reset()
        assert client.read_record() is None
        assert client.closed_by == "reset"


def test_addresses_are_read_in_all_their_forms():
    assert str(Address.parse("unix:/a/b")) == str(Address.parse("/a/b")) == "/a/b"
    assert Address.parse("[::1]:80") == Address(host="::1", port=80)
    assert str(Address.parse("[::1]:80")) == "[::1]:80"
    assert Address.parse("127.0.0.1:0").sockaddr == ("127.0.0.1", 0)


def test_request_lines_are_read():
    line = (
        '[21-Nov-2026 10:27:16.123] NOTICE: request=42 method=GET uri="/x\\x22?y" status=200'
        " queue_ms=0.000 response_ms=1.234 deferred_ms=103.400 done=2 failed=0 skipped=0"
        " outcome=completed pid=1234"
    )
    request = parse_request(line)
    assert (request.number, request.uri, request.deferred_ms) == (42, '/x"?y', 103.4)
    assert request.outcome == "completed"
    line = (
        "[21-Nov-2026 10:27:16.123] NOTICE: request=43 method=- uri=- status=-"
        " queue_ms=- response_ms=- deferred_ms=- done=- failed=- skipped=-"
        " outcome=client_gone pid=-"
    )
    request = parse_request(line)
    assert (request.uri, request.status, request.pid) == (None, None, None)
    cause = parse_cause("[21-Nov-2026 10:27:16.123] WARNING: request 42: no upstream")
    assert (cause.number, cause.level, cause.text) == (42, "WARNING", "no upstream")
    assert parse_request("request=1") is None


def test_nginx_reaches_php_directly(start_nginx, shared_fpm):
    nginx = start_nginx(shared_fpm, keepalive=0)
    response = nginx.get("/hello.php")
    assert (response.status, response.text) == (200, "hello\n")
    assert int(response.header("x-pid")) in shared_fpm.workers()


def test_nginx_carries_a_megabyte_each_way(start_nginx, shared_fpm):
    nginx = start_nginx(shared_fpm, keepalive=0)
    body = os.urandom(1 << 20)
    response = nginx.post("/echo.php", body)
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


def test_client_reaches_php_directly(shared_fpm, script):
    with FcgiClient(shared_fpm.address) as client:
        response = client.request("POST", "/echo.php", b"abc", script=script("echo.php"))
        assert (response.status, response.body) == (200, b"abc")


def test_fpm_replaces_a_worker_that_was_killed(start_fpm):
    fpm = start_fpm(workers=2)
    fpm.kill_worker(fpm.workers()[0])
    fpm.wait_for_workers(2)


def test_nothing_is_left_of_a_program_that_dies_badly(start_fpm):
    fpm = start_fpm(workers=2)
    workers = fpm.workers()
    fpm.kill()
    assert all(map(proc.alive, workers))
    fpm.end()
    assert not any(map(proc.alive, workers))


def test_gate_holds_php_until_it_opens(start_nginx, shared_fpm, gate):
    nginx = start_nginx(shared_fpm, keepalive=0)
    waiting = Background(nginx.get, f"/gate.php?gate={gate.path}")
    with pytest.raises(DeadlinePassed):
        waiting.result(0.2)
    gate.open()
    assert waiting.result().text == "passed\n"


def test_fifo_holds_writers_until_it_opens(workspace):
    with Fifo(workspace.path("log")) as fifo:
        with pytest.raises(OSError) as refused:
            os.open(fifo.path, os.O_WRONLY | os.O_NONBLOCK)
        assert refused.value.errno == errno.ENXIO, "a writer that waits would not have to"
        call = Background(workspace.write, "log", "one\n")
        fifo.open()
        call.result()
        workspace.write("log", "two\n")
        assert fifo.lines() == ["one", "two"]


def test_application_that_is_not_a_copy_is_not_edited(workspace):
    app = App(workspace, "plain")
    with pytest.raises(ValueError):
        app.edit("public/index.php", "$defer->run();", "")
