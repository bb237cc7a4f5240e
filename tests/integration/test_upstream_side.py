"""Towards php-fpm: one connection a request, params as they came, and the token."""

import re

import pytest
from harness import FcgiClient, fcgi
from harness.client import encode_request


def forward(client, peer, params, body=b"", **options):
    client.send(encode_request(params, body, **options))
    connection = peer.accept_request()
    connection.answer()
    assert client.read_response(options.get("id", 1)).complete
    return connection.request


def assert_whole_pairs(request):
    for record in request.params_records:
        assert fcgi.decode_pairs(record.content)


def test_request_is_a_responders_without_keep_conn(client, peer):
    request = forward(client, peer, {"REQUEST_METHOD": "GET"}, keep=True)
    assert (request.role, request.flags) == (fcgi.RESPONDER, 0)
    assert request.id != 0


def test_token_comes_last_in_a_record_of_its_own(client, peer):
    request = forward(client, peer, {"REQUEST_METHOD": "GET", "A": "b"})
    name, token = request.pairs[-1]
    assert name == b"DEFERD_TOKEN"
    assert re.fullmatch(rb"[0-9a-f]{32}", token)
    assert request.params_records[-1].content == fcgi.encode_pair(name, token)
    assert [pair for pair in request.pairs if pair[0].startswith(b"DEFERD_")] == request.pairs[-1:]


def test_every_request_has_a_fresh_token(client, peer):
    tokens = {forward(client, peer, {"REQUEST_METHOD": "GET"}, keep=True).token for _ in range(100)}
    assert len(tokens) == 100


@pytest.mark.parametrize("forged", ["0" * 32, "", "x" * 40])
def test_token_of_the_web_server_does_not_count(client, peer, forged):
    request = forward(client, peer, {"DEFERD_TOKEN": forged, "REQUEST_METHOD": "GET",
                                     "HTTP_DEFERD_TOKEN": forged})
    assert request.pairs[-1][0] == b"DEFERD_TOKEN"
    assert re.fullmatch(r"[0-9a-f]{32}", request.token)
    assert request.token != forged


STRANGE_PAIRS = [
    (b"REQUEST_METHOD", b"GET"),
    (b"", b""),
    (b"", b"value of no name"),
    (b"NO_VALUE", b""),
    (b"TWICE", b"1"),
    (b"TWICE", b"2"),
    (b"\0\xff\n", b"\0\r\n\xfe"),
    (b"AT_127", b"x" * 127),
    (b"AT_128", b"x" * 128),
    (b"n" * 127, b"v"),
    (b"n" * 128, b"v"),
    (b"n" * 5000, b"v" * 5000),
    (b"HTTP_PROXY", b"evil"),
    (b"LAST", b"last"),
]


@pytest.mark.parametrize("long_form", [False, True])
@pytest.mark.parametrize("chunk", [1, 13, fcgi.MAX_CONTENT])
def test_params_pass_byte_for_byte_and_in_order(client, peer, long_form, chunk):
    pairs = fcgi.encode_pairs(STRANGE_PAIRS, long_form)
    client.begin()
    client.send(fcgi.stream(fcgi.PARAMS, 1, pairs, chunk))
    client.end_stdin()
    connection = peer.accept_request()
    request = connection.request
    assert request.pairs[:-1] == STRANGE_PAIRS
    assert_whole_pairs(request)
    # The very bytes, not just their meaning: the long form stays long.
    content = b"".join(record.content for record in request.params_records[:-1])
    assert content == pairs
    connection.answer()
    assert client.read_response().complete


@pytest.mark.parametrize("size", [50000, 32700, 65000, 65527])
def test_no_pair_crosses_a_record(start_deferd, peer, size):
    deferd = start_deferd(peer, max_params=400000)
    pairs = [(f"PAIR_{number}", "v" * (size - 10 + number % 3)) for number in range(5)]
    with FcgiClient(deferd.address) as client:
        request = forward(client, peer, pairs)
    assert request.pairs[:-1] == fcgi.decode_pairs(fcgi.encode_pairs(pairs))
    assert_whole_pairs(request)


def test_thousands_of_small_pairs(start_deferd, peer):
    deferd = start_deferd(peer, max_params=400000)
    pairs = [(f"N{number}", f"{number}") for number in range(20000)]
    with FcgiClient(deferd.address) as client:
        request = forward(client, peer, pairs, chunk=777)
    assert request.pairs[:-1] == fcgi.decode_pairs(fcgi.encode_pairs(pairs))
    assert_whole_pairs(request)


def test_request_without_params_still_has_a_token(client, peer):
    request = forward(client, peer, {})
    assert [name for name, _ in request.pairs] == [b"DEFERD_TOKEN"]


@pytest.mark.parametrize("size", [1, 65535, 65536, 300000])
def test_body_passes_byte_for_byte(client, peer, size):
    body = bytes(number * 7 % 256 for number in range(size))
    params = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(size)}
    request = forward(client, peer, params, body, chunk=40000)
    assert request.stdin == body


def test_upstream_connection_closes_at_end_request(client, peer):
    client.send_request(keep=True)
    connection = peer.accept_request()
    connection.answer()
    connection.wait_closed(timeout=1.0)


def test_upstream_connection_closes_at_end_request_after_the_deferred_phase(client, peer):
    client.send_request(keep=True)
    connection = peer.accept_request()
    connection.answer_and_defer()
    assert client.read_response().complete
    connection.finish_tasks()
    connection.wait_closed(timeout=1.0)


def test_upstream_connection_closes_at_end_request_though_the_client_reads_nothing(client, peer):
    """Otherwise a slow client holds a worker that is done."""
    client.send_request()
    connection = peer.accept_request()
    connection.answer(b"x" * 50000)
    connection.wait_closed(timeout=1.0)
    assert client.read_response().body == b"x" * 50000


def test_upstream_connection_closes_though_the_body_was_not_read(client, peer):
    client.start("POST", body_length=10)
    client.stdin(b"12345")
    connection = peer.accept()
    connection.read_params()
    connection.answer()
    assert client.read_response().complete
    connection.wait_closed(timeout=1.0)


def test_every_request_has_a_connection_of_its_own(client, peer):
    connections = []
    for number in range(3):
        client.send_request(uri=f"/{number}", keep=True)
        connections.append(peer.accept_request())
        connections[-1].answer()
        assert client.read_response().complete
    assert peer.idle(0.1)


def survive_get_values(connection):
    """Answers the two with which deferd asks whether connections can be kept."""
    for _ in range(2):
        assert connection.read_record().type == fcgi.GET_VALUES
    answer = fcgi.encode_pairs({"FCGI_MPXS_CONNS": "0"})
    for _ in range(2):
        connection.record(fcgi.GET_VALUES_RESULT, answer, id=0)


def test_connection_that_asked_serves_the_next_request(start_deferd, peer, connect):
    deferd = start_deferd(peer, max_workers=1, keepalive="yes", log_level="debug")
    asking = peer.accept()
    survive_get_values(asking)
    deferd.wait_for_line("connections can be kept")
    client = connect(deferd)
    client.send_request()
    asking.read_request()
    assert asking.request.keep
    assert peer.idle(0)


def test_connection_that_asked_pins_no_worker_that_a_request_waits_for(start_deferd, peer, connect):
    deferd = start_deferd(peer, max_workers=1, keepalive="yes",
                          arguments=["--upstream-idle-timeout", "1h"])
    asking = peer.accept()
    client = connect(deferd)
    client.send_request()
    running = peer.accept_request()
    survive_get_values(asking)
    asking.wait_closed()
    running.answer()
    assert client.read_response().complete


@pytest.mark.parametrize("padding", [0, 1, 7, 8, 255])
@pytest.mark.parametrize("size", [1, 3, 100, 65535])
def test_response_records_of_any_size_and_padding(client, peer, size, padding):
    data = b"Status: 201 Created\r\nX-A: b\r\n\r\n" + bytes(range(256)) * 4
    client.send_request()
    connection = peer.accept_request()
    connection.send(b"".join(
        fcgi.record(fcgi.STDOUT, connection.request.id, data[at:at + size], padding)
        for at in range(0, len(data), size)
    ))
    connection.end()
    response = client.read_response()
    assert (response.stdout, response.complete) == (data, True)


def test_response_that_arrives_byte_by_byte(client, peer):
    client.send_request()
    connection = peer.accept_request()
    id = connection.request.id
    data = b"Content-Type: text/plain\r\n\r\nbody"
    records = fcgi.record(fcgi.STDOUT, id, data, 4) + fcgi.record(fcgi.STDERR, id, b"err", 1)
    connection.send_pieces(records + fcgi.end_request(id))
    response = client.read_response()
    assert (response.stdout, response.stderr, response.complete) == (data, b"err", True)


def test_response_cut_in_two_at_every_byte(client, peer):
    stdout = b"X-A: b\n\nbody"
    data = fcgi.record(fcgi.STDOUT, 1, stdout, 2) + fcgi.record(fcgi.STDERR, 1, b"e")
    data += fcgi.end_request(1)
    for at in range(1, len(data)):
        client.send_request(keep=True)
        connection = peer.accept_request()
        assert connection.request.id == 1
        connection.send_split(data, at)
        response = client.read_response()
        assert (response.stdout, response.stderr, response.complete) == (stdout, b"e", True)


def test_empty_records_at_the_end_of_streams(client, peer):
    """libfcgi ends its streams so; php-fpm does not."""
    client.send_request(keep=True)
    connection = peer.accept_request()
    connection.stdout(b"X-A: b\r\n\r\nbody")
    connection.record(fcgi.STDOUT, b"", connection.request.id)
    connection.record(fcgi.STDERR, b"", connection.request.id)
    connection.end()
    response = client.read_response()
    assert (response.body, response.complete) == (b"body", True)
    client.send_request(uri="/next")
    peer.accept_request().answer(b"next")
    assert client.read_response().body == b"next"


def test_many_records_in_one_write(client, peer):
    client.send_request()
    connection = peer.accept_request()
    id = connection.request.id
    records = [fcgi.record(fcgi.STDOUT, id, b"X-A: b\r\n\r\n")]
    records += [fcgi.record(fcgi.STDOUT, id, b"%05d" % number) for number in range(10000)]
    connection.send(b"".join(records) + fcgi.end_request(id))
    assert client.read_response().body == b"".join(b"%05d" % number for number in range(10000))


def test_exit_status_of_the_application_passes(client, peer):
    client.send_request()
    connection = peer.accept_request()
    connection.stdout(b"X-A: b\r\n\r\nbody")
    connection.end(app_status=0x01020304)
    response = client.read_response()
    assert (response.app_status, response.protocol_status) == (0x01020304, fcgi.REQUEST_COMPLETE)


def test_reserved_bytes_of_end_request_may_hold_anything(client, peer):
    client.send_request()
    connection = peer.accept_request()
    connection.stdout(b"X-A: b\r\n\r\nbody")
    connection.record(fcgi.END_REQUEST, b"\0\0\0\0\0\xde\xad\xbe", connection.request.id)
    assert client.read_response().complete


def test_stderr_passes_before_between_and_after(client, peer):
    client.send_request()
    connection = peer.accept_request()
    connection.stderr(b"one ")
    connection.stdout(b"X-A: b\r\n")
    connection.stderr(b"two ")
    connection.stdout(b"\r\nbody")
    connection.stderr(b"three")
    connection.end()
    response = client.read_response()
    assert (response.stdout, response.stderr) == (b"X-A: b\r\n\r\nbody", b"one two three")
    assert response.complete
