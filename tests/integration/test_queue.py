"""More requests than workers: who waits, in which order, and what a slot's end sets free."""

import time

import pytest
from harness import Background, FcgiClient, fcgi, wait_until


@pytest.fixture(name="one_slot")
def fixture_one_slot(start_deferd, peer):
    return start_deferd(peer, max_workers=1)


def queue_up(deferd, connect, uri, **options):
    """A client whose request deferd has read."""
    client = connect(deferd)
    client.send_request(uri=uri, **options)
    client.wait_read()
    return client


def test_no_more_connections_than_workers(start_deferd, connect, peer):
    deferd = start_deferd(peer, max_workers=3)
    clients = [queue_up(deferd, connect, f"/{number}") for number in range(5)]
    running = [peer.accept_request() for _ in range(3)]
    assert peer.idle(0.2)
    running[0].answer()
    assert clients[0].read_response().complete
    fourth = peer.accept_request()
    assert fourth.request.uri == "/3"
    assert peer.idle(0.1)
    for connection in running[1:]:
        connection.answer()
    assert peer.accept_request().request.uri == "/4"


def test_first_come_first_served(one_slot, connect, peer):
    queue_up(one_slot, connect, "/running")
    running = peer.accept_request()
    for number in range(10):
        queue_up(one_slot, connect, f"/{number}")
    for number in range(10):
        running.answer()
        running = peer.accept_request()
        assert running.request.uri == f"/{number}"
    running.answer()


def test_new_request_does_not_overtake_the_queue(one_slot, connect, peer):
    queue_up(one_slot, connect, "/running")
    running = peer.accept_request()
    queue_up(one_slot, connect, "/waiting")
    late = connect(one_slot)
    late.start(uri="/late")
    running.answer()
    late.end_stdin()
    second = peer.accept_request()
    assert second.request.uri == "/waiting"
    second.answer()
    assert peer.accept_request().request.uri == "/late"


def test_deferred_phase_holds_its_slot(one_slot, connect, peer):
    first = queue_up(one_slot, connect, "/first")
    connection = peer.accept_request()
    connection.answer_and_defer()
    assert first.read_response().complete
    second = queue_up(one_slot, connect, "/second")
    assert peer.idle(0.2)
    connection.finish_tasks()
    peer.accept_request().answer(b"second")
    assert second.read_response().body == b"second"


def test_time_in_the_queue_is_logged(one_slot, connect, peer):
    queue_up(one_slot, connect, "/first")
    running = peer.accept_request()
    second = queue_up(one_slot, connect, "/second")
    begun = time.monotonic()
    assert peer.idle(0.1)
    waited = (time.monotonic() - begun) * 1000
    running.answer()
    peer.accept_request().answer()
    assert second.read_response().complete
    assert one_slot.wait_for_request("/second").queue_ms >= waited
    assert one_slot.wait_for_request("/first").queue_ms < waited


def test_body_of_a_queued_request_stays_in_the_kernel(one_slot, connect, peer):
    queue_up(one_slot, connect, "/running")
    running = peer.accept_request()
    body = bytes(range(256)) * 32768  # 8 MB
    client = connect(one_slot)
    client.start("POST", "/upload", len(body))
    client.wait_read()
    stream = fcgi.stream(fcgi.STDIN, 1, body, 32768)
    taken = client.send_until_blocked(stream)
    assert taken < 1 << 20
    running.answer()
    connection = peer.accept()
    connection.read_params()
    sending = Background(client.send, stream[taken:])
    assert connection.read_stdin() == body
    sending.result()
    connection.answer()
    assert client.read_response().complete


def test_slot_is_not_given_before_the_params_end(one_slot, connect, peer):
    slow = connect(one_slot)
    slow.begin()
    slow.record(fcgi.PARAMS, fcgi.encode_pairs({"REQUEST_METHOD": "GET"}))
    slow.wait_read()
    queue_up(one_slot, connect, "/quick")
    connection = peer.accept_request()
    assert connection.request.uri == "/quick"


def answered(client, connection):
    connection.answer()
    assert client.read_response().complete


def deferred(client, connection):
    connection.answer_and_defer()
    assert client.read_response().complete
    connection.finish_tasks()


def deferred_and_lost(client, connection):
    connection.answer_and_defer()
    assert client.read_response().complete
    connection.close()


def client_left(client, connection):
    client.close()
    connection.wait_closed()


def aborted(client, connection):
    client.record(fcgi.ABORT_REQUEST)
    connection.wait_closed()


def broke_before_the_headers(client, connection):
    connection.close()
    assert client.read_response().status == 502


def broke_in_the_body(client, connection):
    connection.stdout(b"X-A: b\r\n\r\npart")
    connection.close()
    assert not client.read_response().complete


def talked_nonsense(client, connection):
    connection.send(b"\xff" * 100)
    assert client.read_response().status == 502


def client_talked_nonsense(client, connection):
    client.send(b"\xff" * 100)
    client.wait_closed()
    connection.wait_closed()


def native_finish(client, connection):
    answered(client, connection)
    connection.wait_closed()


ENDS = [answered, deferred, deferred_and_lost, client_left, aborted, broke_before_the_headers,
        broke_in_the_body, talked_nonsense, client_talked_nonsense, native_finish]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_slot_comes_back_however_a_request_ends(one_slot, connect, peer, end):
    for _ in range(3):
        client = queue_up(one_slot, connect, "/first", method="POST")  # is not sent again
        connection = peer.accept_request()
        waiting = queue_up(one_slot, connect, "/waiting")
        end(client, connection)
        peer.accept_request().answer(b"at last")
        assert waiting.read_response().body == b"at last"


def test_slot_comes_back_after_a_refused_connection(start_deferd, connect, workspace, start_peer):
    path = workspace.path("later.sock")
    deferd = start_deferd(path, max_workers=1)
    for _ in range(3):
        with FcgiClient(deferd.address) as client:
            assert client.request().status == 502
    peer = start_peer(path)
    client = connect(deferd)
    client.send_request()
    peer.accept_request().answer()
    assert client.read_response().complete


class FullUpstream:
    """A peer whose backlog is full until room() is called."""

    def __init__(self, peer):
        self.peer = peer
        self._filler = FcgiClient(peer.address)

    def room(self):
        self.peer.accept().close()
        self._filler.close()


@pytest.fixture(name="full")
def fixture_full(start_peer, releases):
    full = FullUpstream(start_peer(backlog=0))
    releases.append(full._filler.close)
    return full


def test_full_backlog_is_no_error(start_deferd, connect, full):
    deferd = start_deferd(full.peer, max_workers=4)
    client = queue_up(deferd, connect, "/patient")
    assert client.silent(0.3)
    full.room()
    full.peer.accept_request().answer(b"served")
    assert client.read_response().body == b"served"
    assert deferd.wait_for_request("/patient").outcome == "answered"


def test_full_backlog_keeps_the_order(start_deferd, connect, full):
    deferd = start_deferd(full.peer, max_workers=8)
    for number in range(5):
        queue_up(deferd, connect, f"/{number}")
    full.room()
    for number in range(5):
        connection = full.peer.accept_request()
        assert connection.request.uri == f"/{number}"
        connection.answer()


def test_request_given_up_while_the_backlog_is_full_is_never_sent(start_deferd, connect, full):
    deferd = start_deferd(full.peer, max_workers=4)
    gone = queue_up(deferd, connect, "/gone")
    stays = queue_up(deferd, connect, "/stays")
    gone.close()
    deferd.wait_for_request("/gone", outcome="client_gone")
    full.room()
    connection = full.peer.accept_request()
    assert connection.request.uri == "/stays"
    connection.answer()
    assert stays.read_response().complete


def test_request_that_lost_its_connection_waits_as_before(start_deferd, start_peer, connect):
    peer = start_peer(backlog=0)
    deferd = start_deferd(peer, max_workers=1)
    client = queue_up(deferd, connect, "/again")
    connection = peer.accept_request()
    with FcgiClient(peer.address):  # the backlog is full
        connection.close()
        deferd.wait_for_line("its backlog is full")
        client.close()
        request = deferd.wait_for_request("/again")
    assert request.outcome == "client_gone"
    assert request.queue_ms == request.response_ms  # it never left the queue for good


def test_waiting_for_a_full_backlog_costs_little(start_deferd, connect, full):
    deferd = start_deferd(full.peer, max_workers=64)
    for number in range(20):
        queue_up(deferd, connect, f"/{number}")
    before = deferd.cpu_seconds()
    assert full.peer.idle(0.0) is False  # the filler alone is there
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 0.5)
    assert deferd.cpu_seconds() - before <= 0.1


def test_hundreds_wait_and_all_are_served(start_deferd, connect, peer):
    deferd = start_deferd(peer, max_workers=2)
    clients = [queue_up(deferd, connect, f"/{number}") for number in range(300)]
    peer.serve(lambda connection: (connection.read_request(), connection.answer()), 300)
    assert all(client.read_response().complete for client in clients)
    uris = [request.uri for request in deferd.wait_for_requests(300)]
    assert sorted(uris) == sorted(f"/{number}" for number in range(300))
