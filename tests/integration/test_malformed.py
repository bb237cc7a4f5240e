"""Malformed records from the web server's side: its connection closes, and nothing else happens."""

import pytest
from harness import FcgiClient, fcgi
from harness.client import request_params

GET = fcgi.stream(fcgi.PARAMS, 1, fcgi.encode_pairs(request_params(uri="/bad")))
POST = fcgi.stream(fcgi.PARAMS, 1, fcgi.encode_pairs(request_params("POST", "/bad", b"body")))
BEGIN = fcgi.begin_request(1, flags=fcgi.KEEP_CONN)
END_STDIN = fcgi.record(fcgi.STDIN)


def params(data):
    return BEGIN + fcgi.stream(fcgi.PARAMS, 1, data)


# What can be judged without the application: sent on a fresh connection.
BEFORE_A_REQUEST = {
    "version 0": fcgi.record(fcgi.BEGIN_REQUEST, 1, b"\0" * 8, version=0),
    "version 2": fcgi.record(fcgi.BEGIN_REQUEST, 1, b"\0\1\0\0\0\0\0\0", version=2),
    "version 255": b"\xff" * 8,
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x55" * 100,
    "zeros": b"\0" * 64,
    "PARAMS of no request": GET,
    "STDIN of no request": fcgi.record(fcgi.STDIN, 1, b"x"),
    "BEGIN_REQUEST with id 0": fcgi.begin_request(0),
    "PARAMS with id 0": fcgi.record(fcgi.PARAMS, 0, b"x"),
    "empty BEGIN_REQUEST": fcgi.record(fcgi.BEGIN_REQUEST),
    "short BEGIN_REQUEST": fcgi.record(fcgi.BEGIN_REQUEST, 1, b"\0\1\0\0\0\0\0"),
    "long BEGIN_REQUEST": fcgi.record(fcgi.BEGIN_REQUEST, 1, b"\0\1\0\0\0\0\0\0\0"),
    "type 0": fcgi.record(0),
    "type 12": fcgi.record(12),
    "type 255": fcgi.record(255),
    "STDOUT": fcgi.record(fcgi.STDOUT, 1, b"x"),
    "END_REQUEST": fcgi.end_request(1),
    "cut GET_VALUES": fcgi.record(fcgi.GET_VALUES, 0, b"\x0fabc"),
}

WITHIN_THE_PARAMS = {
    "same request again": BEGIN + BEGIN,
    "STDIN before the end": BEGIN + END_STDIN,
    "of another request": BEGIN + fcgi.record(fcgi.PARAMS, 2, b"x"),
    "DATA": BEGIN + fcgi.record(fcgi.DATA, 1, b"x"),
    "STDERR": BEGIN + fcgi.record(fcgi.STDERR, 1, b"x"),
    "unknown type": BEGIN + fcgi.record(99, 1, b"x"),
    "version 2": BEGIN + fcgi.record(fcgi.PARAMS, 1, b"", version=2),
    "name cut off": params(b"\x05\x00abcd"),
    "value cut off": params(b"\x01\x05Aabcd"),
    "one length only": params(b"\x01"),
    "long length cut off": params(b"\x01\x80\x00\x00"),
    "greatest lengths": params(b"\xff\xff\xff\xff\xff\xff\xff\xffAB"),
    "sum of lengths overflows 32 bits": params(b"\xff\xff\xff\xfe\x80\x00\x00\x0aAB"),
    "good pair, then a cut one": params(fcgi.encode_pair("REQUEST_METHOD", "GET") + b"\x04\x01AB"),
}

AFTER_THE_PARAMS = {
    "PARAMS again": BEGIN + GET + fcgi.record(fcgi.PARAMS, 1, b"x"),
    "empty PARAMS again": BEGIN + GET + fcgi.record(fcgi.PARAMS),
    "same request again": BEGIN + GET + BEGIN,
    "STDIN short of CONTENT_LENGTH": BEGIN + POST + END_STDIN,
    "STDIN one byte short": BEGIN + POST + fcgi.stream(fcgi.STDIN, 1, b"bod"),
    "STDIN after its end": BEGIN + GET + END_STDIN + fcgi.record(fcgi.STDIN, 1, b"x"),
    "end of STDIN twice": BEGIN + GET + END_STDIN + END_STDIN,
    "DATA": BEGIN + GET + fcgi.record(fcgi.DATA),
    "version 9 amid the body": BEGIN + POST + fcgi.record(fcgi.STDIN, 1, b"b", version=9),
    "unknown type amid the body": BEGIN + POST + fcgi.record(77, 1, b"b"),
    "STDIN of another request": BEGIN + POST + fcgi.record(fcgi.STDIN, 2, b"b"),
}


def feed(client, data, pieces):
    """deferd may close before everything is sent."""
    try:
        if pieces:
            client.send_pieces(data, pieces)
        else:
            client.send(data)
    except OSError:
        pass


def assert_closed(deferd, client):
    assert client.read_record(timeout=2.0) is None
    client.close()
    deferd.wait_for_line("malformed")


def assert_serves(deferd, peer):
    with FcgiClient(deferd.address) as client:
        client.send_request(uri="/good")
        while (connection := peer.accept_request()).request.uri != "/good":
            raise AssertionError(f"an unexpected request: {connection.request}")
        connection.answer(b"still here")
        assert client.read_response().body == b"still here"


PIECES = pytest.mark.parametrize("pieces", [None, 1, 3, 7], ids=["at once", "1", "3", "7"])


@PIECES
@pytest.mark.parametrize("kind", [*BEFORE_A_REQUEST])
def test_on_a_fresh_connection(deferd, peer, connect, kind, pieces):
    before = deferd.fds()
    client = connect(deferd)
    feed(client, BEFORE_A_REQUEST[kind], pieces)
    assert_closed(deferd, client)
    assert peer.idle(0)
    assert_serves(deferd, peer)
    deferd.wait_for_fds(before)


@PIECES
@pytest.mark.parametrize("kind", [*WITHIN_THE_PARAMS])
def test_before_the_params_end(deferd, peer, client, kind, pieces):
    feed(client, WITHIN_THE_PARAMS[kind], pieces)
    assert_closed(deferd, client)
    assert peer.idle(0), "the application saw something of it"
    assert_serves(deferd, peer)


@PIECES
@pytest.mark.parametrize("kind", [*AFTER_THE_PARAMS])
def test_after_the_params(deferd, peer, client, kind, pieces):
    feed(client, AFTER_THE_PARAMS[kind], pieces)
    assert_closed(deferd, client)
    deferd.wait_for_request("/bad", outcome="client_gone")
    if not peer.idle(0):
        peer.accept().wait_closed(timeout=2.0)
    assert_serves(deferd, peer)


def test_upload_cut_short_never_looks_complete(deferd, peer, client):
    client.start("POST", "/bad", body_length=10)
    client.stdin(b"12345")
    connection = peer.accept()
    connection.read_params()
    assert connection.read_stdin(5) == b"12345"
    client.end_stdin()
    assert connection.read_record() is None
    assert_closed(deferd, client)


def test_malformed_record_while_queued(start_deferd, connect, peer):
    deferd = start_deferd(peer, max_workers=1)
    first, second = connect(deferd), connect(deferd)
    first.send_request(uri="/running")
    running = peer.accept_request()
    second.send_request(uri="/bad", keep=True)
    second.wait_read()
    second.record(fcgi.PARAMS)
    assert_closed(deferd, second)
    deferd.wait_for_request("/bad", outcome="client_gone")
    running.answer()
    assert first.read_response().complete
    assert_serves(deferd, peer)


def test_malformed_record_after_a_deferred_request_leaves_it_alone(deferd, peer, client):
    client.send_request(uri="/deferred", keep=True)
    connection = peer.accept_request()
    connection.answer_and_defer()
    assert client.read_response().complete
    client.send(b"\xff" * 100)
    assert_closed(deferd, client)
    assert connection.silent(0.05), "the worker's connection was closed"
    connection.finish_tasks()
    assert deferd.wait_for_request("/deferred").outcome == "completed"


def test_other_connections_are_not_touched(deferd, peer, client, connect):
    other = connect(deferd)
    other.send_request(uri="/other")
    connection = peer.accept_request()
    client.send(b"\xff" * 100)
    assert_closed(deferd, client)
    connection.answer(b"untouched")
    assert other.read_response().body == b"untouched"


NO_NUMBERS = ["abc", "-1", "+4", "0x4", "1e1", " 4", "4 ", "99999999999999999999999999"]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_content_length_that_is_no_number_does_no_harm(deferd, peer, client, value):
    """Whatever becomes of it: the application never waits for a body that does not come."""
    client.send_request("POST", "/bad", b"body", {"CONTENT_LENGTH": value})
    if client.silent(0.05):
        connection = peer.accept_request()
        assert connection.request.stdin == b"body"
        connection.answer()
        assert client.read_response().complete
    else:
        client.wait_closed()
    assert_serves(deferd, peer)


def test_body_beyond_content_length_cannot_become_a_request(deferd, peer, client):
    """With KEEP_CONN php-fpm would run it; so there is none, and it stays STDIN."""
    smuggled = fcgi.begin_request(1) + GET
    client.begin(keep=True)
    client.params(request_params("POST", "/bad", b"body"))
    client.stdin(b"body" + smuggled)
    client.end_stdin()
    if not client.silent(0.05):
        return client.wait_closed()
    connection = peer.accept_request()
    assert not connection.request.keep
    assert connection.request.stdin in (b"body", b"body" + smuggled)
    connection.answer()
    assert client.read_response().complete
    assert peer.idle(0.05)


def test_many_malformed_connections_leave_nothing(deferd, peer):
    before = deferd.fds()
    kinds = [*BEFORE_A_REQUEST.values(), *WITHIN_THE_PARAMS.values()]
    for _ in range(10):
        for data in kinds:
            with FcgiClient(deferd.address) as client:
                client.send(data)
                assert client.read_record(timeout=2.0) is None
    deferd.wait_for_fds(before)
    assert_serves(deferd, peer)
