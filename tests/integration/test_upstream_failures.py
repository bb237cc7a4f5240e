"""The application absent, broken or gone, at every stage of a request."""

import os

import pytest
from harness import FcgiClient, fcgi

HEAD = b"Content-Type: text/plain\r\n\r\n"


def assert_502(deferd, client, uri="/broken"):
    response = client.read_response()
    assert (response.status, response.complete) == (502, True)
    assert "content-type" in response.headers
    request = deferd.wait_for_request(uri)
    assert (request.status, request.outcome) == (502, "upstream_failed")
    assert deferd.causes_of(request), "no line says why"
    return response


def assert_broken_off(deferd, client, data, uri="/broken"):
    """Closed without END_REQUEST: nginx then tells its client that the response is cut."""
    response = client.read_response()
    assert not response.complete
    assert response.stdout == data
    request = deferd.wait_for_request(uri)
    assert (request.status, request.outcome) == (200, "upstream_failed")
    assert deferd.causes_of(request), "no line says why"


def begin_only(connection):
    connection.read_begin()


def whole_request(connection):
    connection.read_request()


def part_of_a_record(connection):
    connection.read_request()
    connection.send(fcgi.header(fcgi.STDOUT, 1, 100)[:5])


def record_without_content(connection):
    connection.read_request()
    connection.send(fcgi.header(fcgi.STDOUT, 1, 100))


def part_of_the_headers(connection):
    connection.read_request()
    connection.stdout(HEAD[:10])


def all_but_the_last_byte_of_the_headers(connection):
    connection.read_request()
    connection.stdout(HEAD[:-1])


def stderr_only(connection):
    connection.read_request()
    connection.stderr(b"PHP message: it will not work")


STAGES_BEFORE_HEADERS = [
    lambda connection: None, begin_only, whole_request, part_of_a_record, record_without_content,
    part_of_the_headers, all_but_the_last_byte_of_the_headers, stderr_only,
]


def name_of(function):
    return getattr(function, "__name__", str(function)).replace("<lambda>", "nothing")


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
@pytest.mark.parametrize("listen", [None, "127.0.0.1:0"], ids=["unix", "tcp"])
@pytest.mark.parametrize("stage", STAGES_BEFORE_HEADERS, ids=name_of)
def test_connection_that_ends_before_the_headers_is_502(
    start_deferd, start_peer, connect, stage, listen, how
):
    peer = start_peer(listen)
    deferd = start_deferd(peer)
    client = connect(deferd)
    client.send_request("POST", "/broken", b"body")
    connection = peer.accept()
    stage(connection)
    getattr(connection, how)()
    assert_502(deferd, client)


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
@pytest.mark.parametrize("listen", [None, "127.0.0.1:0"], ids=["unix", "tcp"])
@pytest.mark.parametrize("data", [HEAD, HEAD + b"x", HEAD + b"x" * 30000])
def test_connection_that_ends_after_the_headers_breaks_the_response_off(
    start_deferd, start_peer, connect, data, listen, how
):
    peer = start_peer(listen)
    deferd = start_deferd(peer)
    client = connect(deferd)
    client.send_request(uri="/broken", keep=True)
    connection = peer.accept_request()
    connection.stdout(data)
    if how == "reset":  # a reset may overtake data that was not read
        assert client.read_stdout(len(data)) == data
        data = b""
    getattr(connection, how)()
    assert_broken_off(deferd, client, data)


def test_connection_that_ends_within_a_record_breaks_the_response_off(deferd, peer, client):
    client.send_request(uri="/broken")
    connection = peer.accept_request()
    connection.stdout(HEAD)
    connection.send(fcgi.header(fcgi.STDOUT, 1, 10) + b"12345")
    connection.close()
    response = client.read_response()
    assert not response.complete
    assert (HEAD + b"12345").startswith(response.stdout)
    assert deferd.wait_for_request("/broken").outcome == "upstream_failed"


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
def test_connection_that_ends_after_the_marker_is_lost(deferd, peer, client, how):
    client.send_request(uri="/broken")
    connection = peer.accept_request()
    connection.answer_and_defer(b"complete", tasks=["send the mail"])
    getattr(connection, how)()
    response = client.read_response()
    assert (response.body, response.complete) == (b"complete", True)
    request = deferd.wait_for_request("/broken")
    assert (request.status, request.outcome) == (200, "lost")
    assert any("send the mail" in cause for cause in deferd.causes_of(request))


def test_end_without_a_response_is_502(deferd, peer, client):
    client.send_request(uri="/broken")
    peer.accept_request().end()
    assert_502(deferd, client)


def test_end_within_the_headers_is_502(deferd, peer, client):
    client.send_request(uri="/broken")
    connection = peer.accept_request()
    connection.stdout(b"X-A: b\r\n")
    connection.end()
    assert_502(deferd, client)


@pytest.mark.parametrize("status", [fcgi.CANT_MPX_CONN, fcgi.OVERLOADED, fcgi.UNKNOWN_ROLE, 200])
def test_refusal_of_the_application_is_502(deferd, peer, client, status):
    client.send_request(uri="/broken")
    peer.accept_request().end(protocol_status=status)
    assert_502(deferd, client)


@pytest.mark.parametrize("upstream", ["missing", "refused", "tcp"])
def test_absent_application_is_502_and_the_next_request_finds_it(
    start_deferd, start_peer, connect, workspace, upstream
):
    path = workspace.path("upstream.sock")
    first = start_peer("127.0.0.1:0" if upstream == "tcp" else path)
    address = first.address
    first.end()
    if upstream == "missing":
        os.unlink(path)
    deferd = start_deferd(address)
    client = connect(deferd)
    client.send_request("POST", "/broken", b"body" * 20000, keep=True)
    assert_502(deferd, client)
    if upstream == "refused":
        os.unlink(path)
    peer = start_peer(address)
    client.send_request(uri="/next")
    peer.accept_request().answer(b"back again")
    assert client.read_response().body == b"back again"


def test_502_while_the_body_is_still_coming_keeps_the_connection(deferd, peer, client):
    client.start("POST", "/broken", body_length=6, keep=True)
    client.stdin(b"abc")
    peer.accept().close()
    assert_502(deferd, client)
    client.stdin(b"def")
    client.end_stdin()
    client.send_request(uri="/next")
    peer.accept_request().answer(b"next")
    assert client.read_response().body == b"next"


def test_502_to_head_has_no_body(deferd, peer, client):
    client.send_request("HEAD", "/broken")
    for _ in range(2):
        peer.accept().close()
    assert assert_502(deferd, client).body == b""


def test_502_tells_the_client_nothing_of_the_inside(deferd, peer, client):
    client.send_request(uri="/broken")
    connection = peer.accept_request()
    connection.stdout(b"X-Secret: 1\r\n")
    connection.close()
    response = assert_502(deferd, client)
    assert b"Secret" not in response.stdout
    assert peer.address.path.encode() not in response.stdout


def test_stderr_before_a_502_passes(deferd, peer, client):
    client.send_request(uri="/broken")
    connection = peer.accept_request()
    connection.stderr(b"PHP message: why")
    connection.wait_read()
    connection.close()
    assert assert_502(deferd, client).stderr == b"PHP message: why"


NONSENSE = {
    "version 0": fcgi.record(fcgi.STDOUT, 1, b"x", version=0),
    "version 2": fcgi.record(fcgi.STDOUT, 1, b"x", version=2),
    "another id": fcgi.record(fcgi.STDOUT, 2, b"x"),
    "another id's end": fcgi.end_request(2),
    "id 0": fcgi.record(fcgi.STDOUT, 0, b"x"),
    "BEGIN_REQUEST": fcgi.begin_request(1),
    "ABORT_REQUEST": fcgi.record(fcgi.ABORT_REQUEST, 1),
    "PARAMS": fcgi.record(fcgi.PARAMS, 1),
    "STDIN": fcgi.record(fcgi.STDIN, 1, b"x"),
    "DATA": fcgi.record(fcgi.DATA, 1, b"x"),
    "type 0": fcgi.record(0, 1, b"x"),
    "type 12": fcgi.record(12, 1, b"x"),
    "type 255": fcgi.record(255, 1, b"x"),
    "empty end": fcgi.record(fcgi.END_REQUEST, 1),
    "short end": fcgi.record(fcgi.END_REQUEST, 1, b"\0" * 7),
    "long end": fcgi.record(fcgi.END_REQUEST, 1, b"\0" * 9),
    "HTTP": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "zeros": b"\0" * 1000,
    "ones": b"\xff" * 1000,
}


@pytest.mark.parametrize("pieces", [None, 1], ids=["at once", "bytewise"])
@pytest.mark.parametrize("kind", NONSENSE)
def test_malformed_record_before_the_headers_is_502(deferd, peer, client, kind, pieces):
    client.send_request("POST", "/broken")
    connection = peer.accept_request()
    say(connection, NONSENSE[kind], pieces)
    assert_502(deferd, client)
    connection.wait_closed(timeout=1.0)


@pytest.mark.parametrize("kind", NONSENSE)
def test_malformed_record_after_the_headers_breaks_the_response_off(deferd, peer, client, kind):
    client.send_request(uri="/broken", keep=True)
    connection = peer.accept_request()
    connection.stdout(HEAD + b"part")
    say(connection, NONSENSE[kind])
    assert_broken_off(deferd, client, HEAD + b"part")
    connection.wait_closed(timeout=1.0)


@pytest.mark.parametrize("kind", NONSENSE)
def test_malformed_record_after_the_marker_is_lost(deferd, peer, client, kind):
    client.send_request(uri="/broken", keep=True)
    connection = peer.accept_request()
    connection.answer_and_defer()
    say(connection, NONSENSE[kind])
    assert client.read_response().complete
    assert deferd.wait_for_request("/broken").outcome == "lost"
    connection.wait_closed(timeout=1.0)
    client.send_request(uri="/next")
    peer.accept_request().answer()
    assert client.read_response().complete


def say(connection, data, pieces=None):
    """Sends nonsense; deferd may close before it is all out."""
    try:
        if pieces:
            connection.send_pieces(data, pieces)
        else:
            connection.send(data)
    except OSError:
        pass


def test_bytes_after_the_end_are_not_anybodys_response(deferd, peer, client):
    client.send_request(keep=True)
    connection = peer.accept_request()
    connection.send(fcgi.record(fcgi.STDOUT, 1, HEAD + b"one") + fcgi.end_request(1)
                    + fcgi.record(fcgi.STDOUT, 1, HEAD + b"two") + fcgi.end_request(1))
    assert client.read_response().body == b"one"
    client.send_request(uri="/next")
    peer.accept_request().answer(b"three")
    assert client.read_response().body == b"three"


def test_peer_that_closes_after_every_byte_of_its_answer(start_deferd, peer):
    """Whatever was cut, the client gets a whole response, a 502 or a closed connection."""
    deferd = start_deferd(peer, max_workers=1)
    before = deferd.fds()
    body = b"body"
    data = None
    at = 0
    while data is None or at <= len(data):
        with FcgiClient(deferd.address) as client:
            client.send_request("POST", f"/{at}")
            connection = peer.accept_request()
            head_end = 8 + len(HEAD)
            data = fcgi.record(fcgi.STDOUT, 1, HEAD + body + fcgi.marker(connection.request.token))
            marker_end = len(data)
            data += fcgi.record(fcgi.STDOUT, 1, b'{"event":"begin","pid":1,"tasks":["a"]}\n')
            data += fcgi.end_request(1)
            connection.send(data[:at])
            connection.close()
            response = client.read_response()
            if at < head_end:
                assert (response.status, response.complete) == (502, True)
            elif at < marker_end:
                assert not response.complete
                assert (HEAD + body).startswith(response.stdout)
            else:
                assert (response.body, response.complete) == (body, True)
        at += 1
    requests = deferd.wait_for_requests(at)
    assert {request.outcome for request in requests} == {"upstream_failed", "lost"}
    deferd.wait_for_fds(before)
