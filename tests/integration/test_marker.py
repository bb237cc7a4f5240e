"""The end-of-response marker: found wherever it stands, and nothing else is taken for it."""

import pytest
from harness import Background, fcgi

HEAD = b"Content-Type: text/plain\r\n\r\n"
BODY = b"the body"
BEGIN = b'{"event":"begin","pid":77,"tasks":["a"]}\n'


def start(client, peer, uri="/marked"):
    client.send_request(uri=uri, keep=True)
    return peer.accept_request()


def finish(deferd, connection, uri="/marked", count=1):
    """The deferred phase ends well, and deferd has seen it as one."""
    connection.finish_tasks()
    request = deferd.wait_for_request(uri, count)
    assert (request.outcome, request.done, request.pid) == ("completed", 1, 77)
    return request


def assert_answered(client, body=BODY, stdout=None):
    response = client.read_response()
    assert response.complete
    assert (response.app_status, response.protocol_status) == (0, fcgi.REQUEST_COMPLETE)
    assert response.stdout == (HEAD + body if stdout is None else stdout)


def test_response_is_complete_while_the_application_goes_on(deferd, peer, client):
    connection = start(client, peer)
    connection.stdout(HEAD + BODY)
    connection.marker()
    assert_answered(client)
    assert deferd.requests == []
    assert connection.silent(0.1), "deferd closed the worker's connection"
    connection.stdout(BEGIN)
    finish(deferd, connection)


def test_marker_in_one_record_with_everything(deferd, peer, client):
    connection = start(client, peer)
    end = b'{"event":"done","task":0,"ms":1}\n{"event":"end"}\n'
    data = HEAD + BODY + fcgi.marker(connection.request.token) + BEGIN + end
    connection.send(fcgi.record(fcgi.STDOUT, 1, data) + fcgi.end_request(1))
    assert_answered(client)
    assert deferd.wait_for_request("/marked").outcome == "completed"


def test_marker_cut_by_a_write_at_every_byte(deferd, peer, client):
    for at in range(0, 47 + 2):
        connection = start(client, peer)
        data = HEAD + BODY + fcgi.marker(connection.request.token) + BEGIN
        connection.send_split(fcgi.record(fcgi.STDOUT, 1, data), 8 + len(HEAD + BODY) + at)
        assert_answered(client)
        finish(deferd, connection, count=at + 1)


def test_marker_cut_by_a_record_at_every_byte(deferd, peer, client):
    for count, at in enumerate(range(1, 47)):
        connection = start(client, peer)
        data = HEAD + BODY + fcgi.marker(connection.request.token) + BEGIN
        cut = len(HEAD + BODY) + at
        connection.stdout(data[:cut], padding=count % 8)
        connection.wait_read()
        connection.stdout(data[cut:])
        assert_answered(client)
        finish(deferd, connection, count=count + 1)


def test_marker_in_records_of_one_byte(deferd, peer, client):
    connection = start(client, peer)
    for byte in HEAD + BODY + fcgi.marker(connection.request.token) + BEGIN:
        connection.stdout(bytes([byte]), padding=3)
    assert_answered(client)
    finish(deferd, connection)


def test_stderr_and_empty_records_within_the_marker(deferd, peer, client):
    connection = start(client, peer)
    marker = fcgi.marker(connection.request.token)
    connection.stdout(HEAD + BODY + marker[:20])
    connection.stderr(b"warning")
    connection.stdout(marker[20:] + BEGIN)
    response = client.read_response()
    assert (response.stdout, response.stderr, response.complete) == (HEAD + BODY, b"warning", True)
    finish(deferd, connection)


@pytest.mark.parametrize("cut", [0, 5, len(HEAD) - 1, len(HEAD)])
def test_marker_right_behind_the_headers(deferd, peer, client, cut):
    connection = start(client, peer)
    data = HEAD + fcgi.marker(connection.request.token) + BEGIN
    connection.send_split(fcgi.record(fcgi.STDOUT, 1, data[:cut] or data), 8)
    if cut:
        connection.stdout(data[cut:])
    assert_answered(client, b"")
    finish(deferd, connection)


def test_every_beginning_of_a_marker_is_data(peer, client):
    for length in range(1, 47):
        connection = start(client, peer)
        part = fcgi.marker(connection.request.token)[:length]
        body = b"<" + part + b">"
        connection.stdout(HEAD + body)
        connection.end()
        assert_answered(client, body)


def test_every_beginning_of_a_marker_at_the_end_is_data(peer, client):
    for length in range(1, 47):
        connection = start(client, peer)
        body = BODY + fcgi.marker(connection.request.token)[:length]
        connection.stdout(HEAD + body)
        connection.wait_read()
        connection.end()
        assert_answered(client, body)


def test_beginnings_of_a_marker_in_a_row_before_the_real_one(deferd, peer, client):
    for count, length in enumerate(range(1, 47)):
        connection = start(client, peer)
        marker = fcgi.marker(connection.request.token)
        body = BODY + marker[:length] + marker[:1] + marker[:length]
        connection.stdout(HEAD + body)
        connection.wait_read()
        connection.stdout(marker + BEGIN)
        assert_answered(client, body)
        finish(deferd, connection, count=count + 1)


def altered(token):
    marker = fcgi.marker(token)
    return {
        "another token": fcgi.marker("0123456789abcdef" * 2),
        "no newline": marker[:-1] + b" ",
        "CRLF": marker[:-1] + b"\r\n",
        "no first byte": marker[1:],
        "doubled first byte off": b"\x1e\x1f" + marker[1:],
        "upper case": marker[:14] + marker[14:46].upper() + b"\n" if not token.isdigit() else b"",
        "last digit": marker[:45] + (b"0" if marker[45:46] != b"0" else b"1") + b"\n",
        "another version": marker.replace(b"DEFERD/1", b"DEFERD/2"),
        "another word": marker.replace(b"END", b"end"),
        "a blank more": marker.replace(b"END ", b"END  "),
        "a byte within": marker[:30] + b"\0" + marker[30:],
    }


@pytest.mark.parametrize("kind", altered("a" * 32))
def test_what_only_resembles_a_marker_is_data(peer, client, kind):
    connection = start(client, peer)
    body = BODY + altered(connection.request.token)[kind] + b"more"
    connection.stdout(HEAD + body)
    connection.end()
    assert_answered(client, body)


def test_first_byte_of_a_marker_twice_before_a_real_one(deferd, peer, client):
    connection = start(client, peer)
    connection.stdout(HEAD + BODY + b"\x1e\x1e\x1e" + fcgi.marker(connection.request.token) + BEGIN)
    assert_answered(client, BODY + b"\x1e\x1e\x1e")
    finish(deferd, connection)


def test_token_of_another_request_ends_nothing(deferd, peer, connect):
    first, second = connect(deferd), connect(deferd)
    one, two = start(first, peer, "/one"), start(second, peer, "/two")
    foreign = fcgi.marker(two.request.token)
    one.stdout(HEAD + foreign + BODY)
    one.end()
    assert_answered(first, foreign + BODY)
    two.answer(b"two")
    assert second.read_response().complete


def test_token_of_the_request_before_ends_nothing(peer, client):
    connection = start(client, peer)
    old = fcgi.marker(connection.request.token)
    connection.answer()
    assert client.read_response().complete
    connection = start(client, peer)
    connection.stdout(HEAD + old + BODY)
    connection.end()
    assert_answered(client, old + BODY)


def test_second_marker_is_no_response(deferd, peer, client):
    connection = start(client, peer)
    marker = fcgi.marker(connection.request.token)
    connection.stdout(HEAD + BODY + marker + marker + BEGIN)
    assert_answered(client)
    finish(deferd, connection)


@pytest.mark.parametrize("before", [b"", b"X-A: b", b"X-A: b\r\n", b"X-A: b\r\n\r", b"X-A: b\n"])
def test_marker_within_the_headers_is_an_error(deferd, peer, client, before):
    connection = start(client, peer)
    connection.stdout(before + fcgi.marker(connection.request.token))
    connection.wait_read()
    response = client.read_response()
    assert (response.status, response.complete) == (502, True)
    request = deferd.wait_for_request("/marked")
    assert (request.status, request.outcome) == (502, "upstream_failed")
    assert deferd.causes_of(request)


def test_megabyte_full_of_beginnings(deferd, peer, client):
    connection = start(client, peer)
    marker = fcgi.marker(connection.request.token)
    body = b"".join(marker[:length % 46 + 1] for length in range(40000))
    from_peer = HEAD + body + marker + BEGIN
    sending = Background(connection.send, fcgi.stream(fcgi.STDOUT, 1, from_peer, 8191)[:-8])
    assert_answered(client, body)
    sending.result()
    finish(deferd, connection)
