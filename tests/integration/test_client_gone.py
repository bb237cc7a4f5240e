"""A web server that leaves, or gives a request up, at every stage of it."""

import pytest
from harness import FcgiClient, fcgi
from harness.client import encode_request, request_params


@pytest.fixture(name="one_slot")
def fixture_one_slot(start_deferd, peer):
    return start_deferd(peer, max_workers=1)


@pytest.fixture(name="busy")
def fixture_busy(one_slot, connect, peer):
    """The only slot is taken."""
    client = connect(one_slot)
    client.send_request(uri="/running")
    return peer.accept_request()


def leave(client):
    client.close()


def abort(client):
    client.record(fcgi.ABORT_REQUEST)


def close_in_midst_of_a_record(client):
    client.send(fcgi.header(fcgi.STDIN, 1, 100)[:4])
    client.close()


GOODBYES = pytest.mark.parametrize("goodbye", [leave, abort], ids=["closes", "aborts"])


@GOODBYES
def test_queued_request_is_dropped_and_never_seen(one_slot, busy, connect, peer, goodbye):
    gone, stays = connect(one_slot), connect(one_slot)
    gone.send_request(uri="/gone", keep=True)
    gone.wait_read()
    stays.send_request(uri="/stays")
    stays.wait_read()
    goodbye(gone)
    request = one_slot.wait_for_request("/gone")
    assert (request.outcome, request.status, request.pid) == ("client_gone", None, None)
    busy.answer()
    connection = peer.accept_request()
    assert connection.request.uri == "/stays"
    connection.answer()
    assert stays.read_response().complete
    assert peer.idle(0.05)


def test_queued_request_with_a_body_that_waits_is_dropped(one_slot, busy, connect, peer):
    """deferd does not read from it, and yet notices."""
    gone = connect(one_slot)
    gone.start("POST", "/gone", body_length=10 << 20)
    gone.send_until_blocked(fcgi.stream(fcgi.STDIN, 1, b"x" * (10 << 20), 30000))
    gone.close()
    assert one_slot.wait_for_request("/gone").outcome == "client_gone"
    busy.answer()
    assert peer.idle(0.05)


@GOODBYES
def test_running_request_closes_its_upstream_connection(deferd, peer, client, goodbye):
    client.send_request(uri="/gone", keep=True)
    connection = peer.accept_request()
    goodbye(client)
    connection.wait_closed(timeout=2.0)
    assert deferd.wait_for_request("/gone").outcome == "client_gone"


@GOODBYES
def test_running_request_with_part_of_its_response(deferd, peer, client, goodbye):
    client.send_request(uri="/gone", keep=True)
    connection = peer.accept_request()
    connection.stdout(b"X-A: b\r\n\r\npart")
    client.read_stdout(4)
    goodbye(client)
    connection.wait_closed(timeout=2.0)
    request = deferd.wait_for_request("/gone")
    assert (request.outcome, request.status) == ("client_gone", 200)


@pytest.mark.parametrize("goodbye", [leave, abort, close_in_midst_of_a_record],
                         ids=["closes", "aborts", "closes within a record"])
def test_request_amid_its_upload(deferd, peer, client, goodbye):
    client.start("POST", "/gone", body_length=10, keep=True)
    client.stdin(b"12345")
    connection = peer.accept()
    connection.read_params()
    assert connection.read_stdin(5) == b"12345"
    goodbye(client)
    assert connection.read_record(timeout=2.0) is None, "the upload looks complete"
    assert deferd.wait_for_request("/gone").outcome == "client_gone"


def test_client_that_leaves_while_it_is_slow_to_read(deferd, peer, client):
    client.send_request(uri="/gone")
    connection = peer.accept_request()
    connection.stdout(b"X-A: b\r\n\r\n")
    connection.send_until_blocked(fcgi.stream(fcgi.STDOUT, 1, b"x" * (8 << 20), 30000)[:-8])
    client.close()
    connection.wait_closed(timeout=2.0)
    assert deferd.wait_for_request("/gone").outcome == "client_gone"


def test_client_that_leaves_while_the_upstream_is_slow_to_read(deferd, peer, client):
    client.start("POST", "/gone", body_length=10 << 20)
    connection = peer.accept()
    connection.read_params()
    client.send_until_blocked(fcgi.stream(fcgi.STDIN, 1, b"x" * (10 << 20), 30000))
    client.close()
    assert deferd.wait_for_request("/gone").outcome == "client_gone"
    connection.wait_closed(timeout=2.0)


@GOODBYES
def test_deferred_phase_goes_on(deferd, peer, client, goodbye):
    client.send_request(uri="/deferred", keep=True)
    connection = peer.accept_request()
    connection.answer_and_defer()
    assert client.read_response().complete
    goodbye(client)
    assert connection.silent(0.2), "the worker's connection was closed"
    connection.finish_tasks()
    request = deferd.wait_for_request("/deferred")
    assert (request.outcome, request.done) == ("completed", 1)


def test_deferred_phase_goes_on_though_the_response_could_not_be_delivered(deferd, peer, client):
    client.send_request(uri="/deferred")
    connection = peer.accept_request()
    connection.stdout(b"X-A: b\r\n\r\n" + b"x" * 150000)
    connection.wait_read()
    connection.marker()
    connection.wait_read()
    connection.report({"event": "begin", "pid": 1, "tasks": ["a"]})
    connection.wait_read()
    client.close()
    assert connection.silent(0.1), "the worker's connection was closed"
    connection.finish_tasks()
    assert deferd.wait_for_request("/deferred").outcome == "completed"


def test_abort_is_answered_and_the_connection_goes_on(deferd, peer, client):
    client.send_request(uri="/gone", id=3, keep=True)
    connection = peer.accept_request()
    client.record(fcgi.ABORT_REQUEST, id=3)
    response = client.read_response(3)
    assert response.complete
    assert response.stdout == b""
    connection.wait_closed()
    client.send_request(uri="/next", id=3)
    peer.accept_request().answer(b"next")
    assert client.read_response(3).body == b"next"


def test_abort_of_a_queued_request_is_answered(one_slot, busy, connect):
    client = connect(one_slot)
    client.send_request(uri="/gone", keep=True)
    client.wait_read()
    client.record(fcgi.ABORT_REQUEST)
    assert client.read_response().complete


def test_abort_without_keep_conn_closes(peer, client):
    client.send_request()
    peer.accept_request()
    client.record(fcgi.ABORT_REQUEST)
    client.wait_closed(timeout=2.0)


def test_abort_amid_the_params(deferd, peer, client):
    client.begin(keep=True)
    client.record(fcgi.PARAMS, fcgi.encode_pairs({"REQUEST_METHOD": "GET"}))
    client.record(fcgi.ABORT_REQUEST)
    assert client.read_response().complete
    client.send_request(uri="/next")
    peer.accept_request().answer(b"next")
    assert client.read_response().body == b"next"


def test_abort_with_the_body_still_coming(deferd, peer, client):
    client.start("POST", "/gone", body_length=6, keep=True)
    client.stdin(b"abc")
    connection = peer.accept()
    client.record(fcgi.ABORT_REQUEST)
    client.stdin(b"def")
    client.end_stdin()
    assert client.read_response().complete
    connection.wait_closed()
    client.send_request(uri="/next")
    peer.accept_request().answer(b"next")
    assert client.read_response().body == b"next"


def test_client_that_closes_after_every_byte_of_its_request(start_deferd, start_peer):
    """Nothing stays behind, and no truncated upload looks complete."""
    peer = start_peer()
    deferd = start_deferd(peer)
    before = deferd.fds()
    params = request_params("POST", "/cut", b"body")
    data = encode_request(params, b"body", padding=1)
    params_end = len(encode_request(params)) - len(fcgi.record(fcgi.STDIN))
    params_end += 1  # one byte of padding more in each of two PARAMS records
    params_end += 1
    for at in range(len(data) + 1):
        client = FcgiClient(deferd.address)
        client.send(data[:at])
        if at >= params_end:
            connection = peer.accept()
            connection.read_params()
            client.close()
            records = connection.read_records_until_closed()
            stdin = b"".join(record.content for record in records)
            assert b"body".startswith(stdin)
            ended = bool(records) and not records[-1].content
            assert not ended or at >= len(data) - 1, "a truncated body looks complete"
            assert ended or at < len(data)
            connection.close()
        else:
            client.close()
    deferd.wait_for_fds(before)
    requests = deferd.wait_for_requests(len(data) + 1 - params_end)
    assert {request.outcome for request in requests} == {"client_gone"}


def test_clients_that_come_and_go_leave_nothing(deferd):
    before = deferd.fds()
    for _ in range(300):
        FcgiClient(deferd.address).close()
    deferd.wait_for_fds(before)


def test_client_that_leaves_while_deferd_still_connects(start_deferd, start_peer, connect):
    """On TCP a full backlog leaves the connect pending instead of refusing it."""
    peer = start_peer("127.0.0.1:0", backlog=0)
    deferd = start_deferd(peer, max_workers=4)
    before = deferd.fds()
    fillers = [peer.address.connect()]
    client = connect(deferd)
    client.send_request("POST", "/gone", b"body")
    client.wait_read()
    assert client.silent(0.1)
    client.close()
    assert deferd.wait_for_request("/gone").outcome == "client_gone"
    deferd.wait_for_fds(before)
    for filler in fillers:
        filler.close()
