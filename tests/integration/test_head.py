"""HEAD: the response ends with its header block, for PHP drops the marker with all other output."""

import pytest
from harness import fcgi

BLOCKS = [
    b"Content-Type: text/plain\r\n\r\n",
    b"Status: 304 Not Modified\r\nX-A: b\r\n\r\n",
    b"X-A: b\n\n",
    b"X-A: b\r\nX-B: c\n\r\n",
]


def start(client, peer, uri="/head"):
    client.send_request("HEAD", uri, keep=True)
    return peer.accept_request()


@pytest.mark.parametrize("block", BLOCKS)
def test_response_ends_with_the_header_block_and_the_application_goes_on(
    deferd, peer, client, block
):
    for count, at in enumerate(range(1, len(block) + 1)):
        connection = start(client, peer)
        connection.stdout(block[:at])
        connection.wait_read()
        if block[at:]:
            connection.stdout(block[at:])
        response = client.read_response()
        assert (response.stdout, response.complete) == (block, True)
        connection.end()
        request = deferd.wait_for_request("/head", count + 1)
        assert request.method == "HEAD"


def test_block_cut_by_a_write_at_every_byte(peer, client):
    data = fcgi.record(fcgi.STDOUT, 1, BLOCKS[0])
    for at in range(1, len(data)):
        connection = start(client, peer)
        connection.send_split(data, at)
        assert client.read_response().stdout == BLOCKS[0]
        connection.end()


def test_worker_is_held_until_its_end(start_deferd, connect, peer):
    deferd = start_deferd(peer, max_workers=1)
    client = connect(deferd)
    connection = start(client, peer)
    connection.stdout(BLOCKS[0])
    assert client.read_response().complete
    client.send_request(uri="/next")
    assert peer.idle(0.2)
    assert connection.silent(0.0)
    connection.end()
    request = deferd.wait_for_request("/head")
    assert request.outcome == "unreported"
    assert request.deferred_ms >= 200
    assert peer.accept_request().request.uri == "/next"


def test_body_of_an_application_that_sends_one_is_dropped(peer, client):
    connection = start(client, peer)
    connection.stdout(BLOCKS[0] + b"a body")
    response = client.read_response()
    assert (response.stdout, response.complete) == (BLOCKS[0], True)
    connection.stdout(b"more of it")
    connection.end()
    client.send_request(uri="/next")
    peer.accept_request().answer(b"next")
    assert client.read_response().body == b"next"


def test_marker_and_reports_behind_the_block_are_read(deferd, peer, client):
    """PHP cannot send them on HEAD; another application can."""
    connection = start(client, peer)
    connection.stdout(BLOCKS[0])
    assert client.read_response().stdout == BLOCKS[0]
    connection.marker()
    connection.report({"event": "begin", "pid": 5, "tasks": ["a"]})
    connection.finish_tasks()
    request = deferd.wait_for_request("/head")
    assert (request.outcome, request.done) == ("completed", 1)


def test_marker_in_one_record_with_the_block(deferd, peer, client):
    connection = start(client, peer)
    connection.stdout(BLOCKS[0] + fcgi.marker(connection.request.token))
    assert client.read_response().stdout == BLOCKS[0]
    connection.report({"event": "begin", "pid": 5, "tasks": ["a"]})
    connection.finish_tasks()
    assert deferd.wait_for_request("/head").outcome == "completed"


def test_connection_that_breaks_within_the_block_is_502(deferd, peer, client):
    connection = start(client, peer)
    connection.stdout(b"X-A: b\r\n")
    connection.close()
    response = client.read_response()
    assert (response.status, response.body, response.complete) == (502, b"", True)
    assert deferd.wait_for_request("/head").outcome == "upstream_failed"


def test_connection_that_breaks_after_the_block_is_lost(deferd, peer, client):
    connection = start(client, peer)
    connection.stdout(BLOCKS[0])
    assert client.read_response().complete
    connection.close()
    assert deferd.wait_for_request("/head").outcome == "lost"


def test_other_methods_are_not_head(peer, client):
    for method in ("GET", "HEADER", "head", "OPTIONS"):
        client.send_request(method, keep=True)
        connection = peer.accept_request()
        connection.answer(b"with a body")
        assert client.read_response().body == b"with a body"
