"""How many deferred phases may be under way at once, and for how long each may take."""

import os
import signal

import pytest
from harness import Background, DeadlinePassed, Gate, fcgi, wait_until

HEAD = b"Content-Type: text/plain\r\n\r\n"


@pytest.fixture(name="start_limited")
def fixture_start_limited(start_deferd, peer):
    """start_limited("1", …): a deferd with that --defer-max-workers."""

    def start(places, *arguments, max_workers=8, **options):
        return start_deferd(peer, max_workers=max_workers, **options,
                            arguments=["--defer-max-workers", places, *arguments])

    return start


@pytest.fixture(name="one_place")
def fixture_one_place(start_limited):
    return start_limited("1")


def run(deferd, connect, peer, uri, *args, **options):
    """A request that has reached the peer: its client, and the peer's connection."""
    client = connect(deferd)
    client.send_request(*(args or ("GET",)), uri=uri, **options)
    return client, peer.accept_request()


def defer(deferd, connect, peer, uri, *args, **options):
    """A request whose response is complete and whose callbacks run; deferd knows it."""
    client, connection = run(deferd, connect, peer, uri, *args, **options)
    connection.answer_and_defer(uri.encode())
    connection.wait_read()
    return client, connection


def has_answer(client, uri):
    response = client.read_response()
    assert (response.body, response.complete) == (uri.encode(), True)


def holds(deferd, connect, peer, *uris):
    """Takes the only place, and has the others wait for it, in this order."""
    client, placed = defer(deferd, connect, peer, "/placed")
    has_answer(client, "/placed")
    return placed, [defer(deferd, connect, peer, uri) for uri in uris]


def all_silent(clients):
    return all(client.silent(0.1 if number == 0 else 0.0) for number, client in enumerate(clients))


# --- the request beyond ---------------------------------------------------------------------------


def test_request_beyond_is_answered_when_a_place_becomes_free(one_place, connect, peer):
    placed, ((client, held),) = holds(one_place, connect, peer, "/held")
    assert client.silent(0.2)
    placed.finish_tasks()
    has_answer(client, "/held")
    assert one_place.wait_for_request("/placed").outcome == "completed"
    assert len(one_place.requests) == 1, "the one that was held is done too"
    held.finish_tasks()
    request = one_place.wait_for_request("/held")
    assert (request.outcome, request.done) == ("completed", 1)


def test_request_beyond_is_answered_when_its_own_callbacks_are_done(one_place, connect, peer):
    placed, ((client, held),) = holds(one_place, connect, peer, "/held")
    assert client.silent(0.1)
    held.finish_tasks()
    has_answer(client, "/held")
    request = one_place.wait_for_request("/held")
    assert (request.outcome, request.done) == ("completed", 1)
    assert placed.silent(0.0)
    placed.finish_tasks()
    assert one_place.wait_for_request("/placed").outcome == "completed"


def test_requests_beyond_are_answered_in_order(one_place, connect, peer):
    uris = [f"/{number}" for number in range(4)]
    placed, held = holds(one_place, connect, peer, *uris)
    for number, (client, connection) in enumerate(held):
        assert all_silent([client for client, _ in held[number:]])
        placed.finish_tasks()
        has_answer(client, uris[number])
        placed = connection
    placed.finish_tasks()
    assert len(one_place.wait_for_requests(5)) == 5


def test_held_request_that_is_done_early_leaves_the_order_as_it_is(one_place, connect, peer):
    placed, held = holds(one_place, connect, peer, "/0", "/1", "/2")
    client, connection = held.pop(1)
    connection.finish_tasks()
    has_answer(client, "/1")
    assert all_silent([client for client, _ in held]), "its end freed a place it never had"
    for client, connection in held:
        placed.finish_tasks()
        has_answer(client, f"/{0 if client is held[0][0] else 2}")
        placed = connection


@pytest.mark.parametrize("how", ["close", "nonsense"])
def test_place_is_free_when_the_worker_dies(one_place, connect, peer, how):
    placed, ((client, _),) = holds(one_place, connect, peer, "/held")
    if how == "close":
        placed.close()
    else:
        placed.send(b"\xff" * 8)
    has_answer(client, "/held")
    assert one_place.wait_for_request("/placed").outcome == "lost"


def test_held_request_whose_worker_dies_is_answered(one_place, connect, peer):
    _, ((client, held),) = holds(one_place, connect, peer, "/held")
    held.close()
    has_answer(client, "/held")
    assert one_place.wait_for_request("/held").outcome == "lost"
    one_place.wait_for_cause("1 not done: task")


@pytest.mark.parametrize("junk", [fcgi.record(99, 1, b"x" * 100),
                                  fcgi.record(fcgi.END_REQUEST, 1, b"x" * 4096)],
                         ids=["type", "length"])
def test_malformed_record_behind_a_held_response_whose_client_is_gone(one_place, connect, peer,
                                                                      junk):
    """That the client is gone is seen when its response is written, with the junk read already."""
    _, ((_, other),) = holds(one_place, connect, peer, "/other")
    client, connection = run(one_place, connect, peer, "/held")
    pieces = b"".join(fcgi.record(fcgi.STDOUT, 1, b"piece") for _ in range(60))
    os.kill(one_place.pid, signal.SIGSTOP)
    connection.send(fcgi.record(fcgi.STDOUT, 1, HEAD) + pieces
                    + fcgi.record(fcgi.STDOUT, 1, fcgi.marker(connection.request.token)) + junk)
    client.reset()
    os.kill(one_place.pid, signal.SIGCONT)
    connection.wait_closed()
    assert one_place.wait_for_request("/held").outcome == "lost"
    other.finish_tasks()
    assert one_place.wait_for_request("/other").outcome == "completed"


def test_held_request_holds_its_slot_once_it_is_answered_too(start_limited, connect, peer):
    deferd = start_limited("1", max_workers=2)
    placed, ((client, held),) = holds(deferd, connect, peer, "/held")
    waiting = connect(deferd)
    waiting.send_request(uri="/waiting")
    waiting.wait_read()
    assert peer.idle(0.1)
    placed.finish_tasks()
    has_answer(client, "/held")
    connection = peer.accept_request()
    connection.answer(b"/waiting")
    has_answer(waiting, "/waiting")
    held.finish_tasks()
    deferd.wait_for_request("/held")


def test_response_ms_has_the_time_held_and_deferred_ms_begins_before(one_place, connect, peer):
    placed, ((client, held),) = holds(one_place, connect, peer, "/held")
    assert client.silent(0.2)
    placed.finish_tasks()
    has_answer(client, "/held")
    held.finish_tasks()
    request = one_place.wait_for_request("/held")
    assert request.response_ms >= 190
    assert request.deferred_ms >= 190
    assert one_place.wait_for_request("/placed").response_ms < 190


# --- the number of places -------------------------------------------------------------------------


@pytest.mark.parametrize("places, workers, expected", [
    ("3", 8, 3), ("1", 8, 1), ("50%", 8, 4), ("30%", 8, 2), ("100%", 3, 3), ("1%", 8, 1),
    ("100", 3, 3), (None, 3, 3),
])
def test_number_of_places(start_limited, start_deferd, connect, peer, places, workers, expected):
    if places is None:
        deferd = start_deferd(peer, max_workers=workers)
    else:
        deferd = start_limited(places, max_workers=workers)
    requests = [defer(deferd, connect, peer, f"/{number}") for number in range(workers)]
    for number, (client, _) in enumerate(requests[:expected]):
        has_answer(client, f"/{number}")
    held = requests[expected:]
    assert all_silent([client for client, _ in held])
    for number, (client, _) in enumerate(held):
        requests[number][1].finish_tasks()
        has_answer(client, f"/{expected + number}")


def test_percentage_is_of_all_upstreams_workers(start_deferd, start_peer, connect):
    peers = [start_peer(), start_peer()]
    deferd = start_deferd(peers[0], max_workers=2, arguments=[
        "--upstream", f"{peers[1].address},max_workers=2", "--defer-max-workers", "50%"])
    requests = []
    for number in range(4):
        client = connect(deferd)
        client.send_request(uri=f"/{number}")
        peer = next(peer for peer in peers * 1000 if not peer.idle(0.001))
        connection = peer.accept_request()
        connection.answer_and_defer(f"/{number}".encode())
        connection.wait_read()
        requests.append((client, connection))
    for number in range(2):
        has_answer(requests[number][0], f"/{number}")
    assert all_silent([client for client, _ in requests[2:]])


# --- others meanwhile -----------------------------------------------------------------------------


@pytest.mark.parametrize("method, body", [("GET", b""), ("POST", b""), ("POST", b"body")])
def test_plain_request_is_not_held(one_place, connect, peer, method, body):
    _, ((held, _),) = holds(one_place, connect, peer, "/held")
    for number in range(5):
        client, connection = run(one_place, connect, peer, f"/{number}", method, body=body)
        connection.answer(f"/{number}".encode())
        has_answer(client, f"/{number}")
        assert one_place.wait_for_request(f"/{number}").outcome == "answered"
    assert held.silent(0.0)


def test_plain_request_on_a_kept_connection_is_not_held(start_limited, connect, peer):
    deferd = start_limited("1", keepalive="yes", max_workers=2)
    connection = peer.answer_question(stay=True)
    client = connect(deferd)
    client.send_request()
    connection.read_kept_request()
    connection.answer_and_defer(b"/")
    has_answer(client, "/")
    client = connect(deferd)
    client.send_request(uri="/0", keep=True)
    other = peer.accept()
    for number in range(5):
        other.read_kept_request()
        other.answer_and_stay(f"/{number}".encode())
        has_answer(client, f"/{number}")
        client.send_request(uri=f"/{number + 1}", keep=True)
        other.next_request()
    assert connection.silent(0.0)


# --- what is held back ----------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [None, 1000], ids=["at once", "in pieces"])
@pytest.mark.parametrize("size", [0, 1, 5000, 65535, 300_000])
def test_held_response_arrives_whole(one_place, connect, peer, size, pieces):
    _, _ = holds(one_place, connect, peer)
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    client, connection = run(one_place, connect, peer, "/held")
    stream = b"".join(
        fcgi.record(fcgi.STDOUT, 1, part)
        for part in chunks(HEAD + body + fcgi.marker(connection.request.token), 8184)
    )
    reading = Background(client.read_response)
    if pieces:
        connection.send_pieces(stream, pieces)
    else:
        connection.send(stream)
        connection.wait_read()
    assert connection.silent(0.1)
    assert not reading.done
    connection.finish_tasks()
    response = reading.result()
    assert (response.stdout, response.complete) == (HEAD + body, True)


def chunks(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


def test_response_to_head_is_held(one_place, connect, peer):
    placed, _ = holds(one_place, connect, peer)
    client, connection = run(one_place, connect, peer, "/held", "HEAD")
    connection.stdout(HEAD)
    connection.wait_read()
    assert client.silent(0.1)
    placed.finish_tasks()
    response = client.read_response()
    assert (response.stdout, response.complete) == (HEAD, True)
    connection.end()
    assert one_place.wait_for_request("/held").outcome == "unreported"


def test_stderr_before_the_end_of_a_held_response_passes(one_place, connect, peer):
    placed, _ = holds(one_place, connect, peer)
    client, connection = run(one_place, connect, peer, "/held")
    connection.send(fcgi.record(fcgi.STDERR, 1, b"PHP message: so") + fcgi.record(
        fcgi.STDOUT, 1, HEAD + b"/held" + fcgi.marker(connection.request.token)))
    connection.wait_read()
    placed.finish_tasks()
    response = client.read_response()
    assert (response.body, response.stderr) == (b"/held", b"PHP message: so")


def test_held_response_of_a_client_that_reads_late(one_place, connect, peer):
    """The response fills the sockets, and its end is held behind it."""
    placed, _ = holds(one_place, connect, peer)
    body = b"x" * 3_000_000
    client, connection = run(one_place, connect, peer, "/held")
    sending = Background(
        lambda: (connection.stdout(HEAD + body), connection.marker(), connection.wait_read())
    )
    assert not client.silent(1.0)
    assert not sending.done
    reading = Background(client.read_response)
    sending.result()
    placed.finish_tasks()
    response = reading.result()
    assert (response.body, response.complete) == (body, True)


def test_callbacks_behind_a_held_response_do_not_wait_for_a_slow_client(
    one_place, connect, peer
):
    """The client reads nothing. Its socket is full at a different byte in each round."""
    holds(one_place, connect, peer)
    last = fcgi.record(fcgi.STDOUT, 1, b"x" * 1000) * 40
    for filling in range(0, 400_000, 20_000):
        client, connection = run(one_place, connect, peer, f"/{filling}")
        connection.stdout(HEAD + b"x" * filling)
        connection.send(last + fcgi.record(fcgi.STDOUT, 1, fcgi.marker(connection.request.token)))
        try:
            wait_until(lambda: connection.has_read, 0.3)  # noqa: B023
        except DeadlinePassed:
            break  # full before the last piece: that, it need not read
        connection.report({"event": "begin", "pid": 1, "tasks": ["task"]})
        connection.finish_tasks()
        request = one_place.wait_for_request(f"/{filling}", timeout=2.0)
        assert request.outcome == "completed"
        client.close()
    assert 100_000 < filling < 380_000, "it must have been full within the last piece once"


def test_next_request_of_a_held_client_waits_for_its_response(one_place, connect, peer):
    """It is in the kernel, or held in deferd; one request at a time on a connection."""
    placed, _ = holds(one_place, connect, peer)
    client, connection = run(one_place, connect, peer, "/held", keep=True)
    connection.answer_and_defer(b"/held")
    connection.wait_read()
    placed.finish_tasks()
    has_answer(client, "/held")
    client.send_request(uri="/next")
    peer.accept_request().answer(b"/next")
    has_answer(client, "/next")


# --- a client that leaves -------------------------------------------------------------------------


def leave(client):
    client.close()


def abort(client):
    client.record(fcgi.ABORT_REQUEST)


GOODBYES = pytest.mark.parametrize("goodbye", [leave, abort], ids=["closes", "aborts"])


def goodbye_seen(deferd, connection, client, goodbye):
    goodbye(client)
    deferd.wait_for_line("cancelled")
    assert connection.silent(0.1), "the worker's connection was closed"


@GOODBYES
def test_callbacks_of_a_client_that_left_finish(start_limited, connect, peer, goodbye):
    deferd = start_limited("1", log_level="debug")
    placed, ((client, held),) = holds(deferd, connect, peer, "/held")
    goodbye_seen(deferd, held, client, goodbye)
    held.finish_tasks()
    request = deferd.wait_for_request("/held")
    assert (request.outcome, request.done) == ("completed", 1)
    placed.finish_tasks()
    assert deferd.wait_for_request("/placed").outcome == "completed"


@GOODBYES
def test_client_that_left_gives_its_turn_to_the_next(start_limited, connect, peer, goodbye):
    deferd = start_limited("1", log_level="debug")
    placed, held = holds(deferd, connect, peer, "/0", "/1", "/2")
    client, connection = held.pop(1)
    goodbye_seen(deferd, connection, client, goodbye)
    assert all_silent([client for client, _ in held])
    placed.finish_tasks()
    has_answer(held[0][0], "/0")
    connection.finish_tasks()
    deferd.wait_for_request("/1")
    assert held[1][0].silent(0.1), "it had no place to give"
    held[0][1].finish_tasks()
    has_answer(held[1][0], "/2")


def test_rest_of_an_upload_is_cut_when_the_client_of_a_held_response_leaves(
    start_limited, connect, peer
):
    """PHP would wait for the rest for ever (fact 14)."""
    deferd = start_limited("1", log_level="debug")
    holds(deferd, connect, peer)
    client = connect(deferd)
    client.start("POST", "/held", body_length=100)
    client.stdin(b"a part")
    connection = peer.accept()
    connection.read_params()
    connection.read_stdin(6)
    connection.answer_and_defer(b"/held")
    connection.wait_read()
    assert connection.silent(0.1)
    client.close()
    assert connection.read_record() is None, "the upload looks complete"
    connection.finish_tasks()
    assert deferd.wait_for_request("/held").outcome == "completed"


def test_upload_that_goes_on_while_its_response_is_held(one_place, connect, peer):
    placed, _ = holds(one_place, connect, peer)
    client = connect(one_place)
    client.start("POST", "/held", body_length=100_000, keep=True)
    client.stdin(b"a part")
    connection = peer.accept()
    connection.read_params()
    connection.read_stdin(6)
    connection.answer_and_defer(b"/held")
    connection.wait_read()
    sending = Background(
        lambda: (client.stdin(b"x" * 99_994), client.end_stdin(), client.send_request(uri="/next"))
    )
    placed.finish_tasks()
    has_answer(client, "/held")
    sending.result()
    peer.accept_request().answer(b"/next")
    has_answer(client, "/next")


def test_drain_waits_for_held_requests(one_place, connect, peer):
    placed, ((client, held),) = holds(one_place, connect, peer, "/held")
    stopping = Background(one_place.stop)
    wait_until(lambda: not os.path.exists(one_place.address.path), what="the drain's beginning")
    assert client.silent(0.1)
    placed.finish_tasks()
    has_answer(client, "/held")
    assert not stopping.done
    held.finish_tasks()
    assert stopping.result() == 0
    assert one_place.wait_for_request("/held").outcome == "completed"


# --- defer.timeout --------------------------------------------------------------------------------


def test_phase_that_takes_too_long_is_ended(start_deferd, connect, peer):
    deferd = start_deferd(peer, max_workers=1, arguments=["--defer-timeout", "300ms"])
    client, connection = run(deferd, connect, peer, "/long")
    connection.answer_and_defer(b"/long", tasks=["send the mail", "resize", "count"])
    has_answer(client, "/long")
    connection.report({"event": "start", "task": 0}, {"event": "done", "task": 0, "ms": 1},
                      {"event": "start", "task": 1})
    waiting = connect(deferd)
    waiting.send_request(uri="/waiting")
    connection.wait_closed()
    request = deferd.wait_for_request("/long")
    assert (request.outcome, request.status, request.done) == ("timeout", 200, 1)
    assert 300 <= request.deferred_ms < 1300
    (cause,) = deferd.causes_of(request)
    assert cause.endswith("took longer than defer.timeout; 2 not done: resize, count")
    peer.accept_request().answer(b"/waiting")
    has_answer(waiting, "/waiting")


def test_each_phase_has_its_own_time(start_deferd, connect, peer):
    deferd = start_deferd(peer, arguments=["--defer-timeout", "400ms"])
    client, first = defer(deferd, connect, peer, "/first")
    has_answer(client, "/first")
    assert first.silent(0.2)
    client, second = defer(deferd, connect, peer, "/second")
    has_answer(client, "/second")
    first.wait_closed()
    assert second.silent(0.05)
    second.wait_closed()
    for uri in ("/first", "/second"):
        request = deferd.wait_for_request(uri)
        assert request.outcome == "timeout"
        assert 400 <= request.deferred_ms < 1400


def test_phase_that_ends_in_time_is_left_alone(start_deferd, connect, peer):
    deferd = start_deferd(peer, arguments=["--defer-timeout", "300ms"])
    _, long = defer(deferd, connect, peer, "/long")
    _, short = defer(deferd, connect, peer, "/short")
    short.finish_tasks()
    assert deferd.wait_for_request("/short").outcome == "completed"
    long.wait_closed()
    assert deferd.wait_for_request("/long").outcome == "timeout"


def test_time_of_running_is_no_deferred_phase(start_deferd, connect, peer):
    deferd = start_deferd(peer, arguments=["--defer-timeout", "100ms"])
    client, connection = run(deferd, connect, peer, "/slow")
    connection.stdout(HEAD + b"/s")
    assert connection.silent(0.3)
    connection.stdout(b"low")
    connection.end()
    has_answer(client, "/slow")
    assert deferd.wait_for_request("/slow").outcome == "answered"


@pytest.mark.parametrize("arguments", [(), ("--defer-timeout", "0")], ids=["default", "0"])
def test_no_timeout(start_deferd, connect, peer, arguments):
    deferd = start_deferd(peer, arguments=arguments)
    client, connection = defer(deferd, connect, peer, "/long")
    has_answer(client, "/long")
    assert connection.silent(1.0)
    connection.finish_tasks()
    assert deferd.wait_for_request("/long").outcome == "completed"


def test_place_of_a_phase_that_took_too_long_goes_to_the_next(start_limited, connect, peer):
    deferd = start_limited("1", "--defer-timeout", "500ms")
    placed, _ = holds(deferd, connect, peer)
    assert placed.silent(0.3)
    client, held = defer(deferd, connect, peer, "/held")
    has_answer(client, "/held")
    assert deferd.wait_for_request("/placed").outcome == "timeout"
    assert held.silent(0.05), "its own time is not up"
    held.finish_tasks()
    assert deferd.wait_for_request("/held").outcome == "completed"


def test_held_request_whose_time_is_up_is_answered(start_limited, connect, peer):
    """Places are held by older phases: their time is up before, and each gives its place on."""
    deferd = start_limited("1", "--defer-timeout", "400ms")
    placed, ((client, held),) = holds(deferd, connect, peer, "/held")
    held_too, other = defer(deferd, connect, peer, "/another")
    for reader, uri in ((client, "/held"), (held_too, "/another")):
        has_answer(reader, uri)
    for connection in (placed, held, other):
        connection.wait_closed()
    for uri in ("/placed", "/held", "/another"):
        assert deferd.wait_for_request(uri).outcome == "timeout"
    assert deferd.wait_for_request("/another").response_ms >= 300


def test_timeout_during_a_drain(start_deferd, connect, peer):
    deferd = start_deferd(peer, arguments=["--defer-timeout", "300ms"])
    client, _ = defer(deferd, connect, peer, "/long")
    has_answer(client, "/long")
    assert deferd.stop(timeout=5.0) == 0
    assert deferd.wait_for_request("/long").outcome == "timeout"


# --- PHP's own fastcgi_finish_request() -----------------------------------------------------------


class Kept:
    """A peer's connection, kept, whose worker goes on after END_REQUEST (fact 10)."""

    def __init__(self, deferd, connect, connection, uri):
        self.client = connect(deferd)
        self.client.send_request(uri=uri)
        self.connection = connection() if callable(connection) else connection
        self.connection.read_kept_request()
        self.connection.send(fcgi.record(fcgi.STDOUT, 1, HEAD + uri.encode()) + fcgi.end_request())
        self.connection.wait_read()

    def free(self):
        self.connection.answer_barrier()


def test_worker_that_goes_on_takes_a_place(start_limited, connect, peer):
    deferd = start_limited("1", keepalive="yes")
    peer.answer_question()
    first = Kept(deferd, connect, peer.accept, "/first")
    has_answer(first.client, "/first")
    held = [Kept(deferd, connect, peer.accept, f"/{number}") for number in range(3)]
    assert all_silent([kept.client for kept in held])
    held[1].free()
    has_answer(held[1].client, "/1")
    first.free()
    has_answer(held[0].client, "/0")
    assert held[2].client.silent(0.1)
    held[0].free()
    has_answer(held[2].client, "/2")
    held[2].free()
    for request in deferd.wait_for_requests(4):
        assert request.outcome == "answered"
    assert deferd.wait_for_request("/2").deferred_ms >= 100


def test_worker_that_goes_on_too_long(start_deferd, connect, peer):
    deferd = start_deferd(peer, keepalive="yes", max_workers=1,
                          arguments=["--defer-timeout", "300ms"])
    kept = Kept(deferd, connect, peer.answer_question(stay=True), "/long")
    has_answer(kept.client, "/long")
    kept.connection.wait_closed()
    request = deferd.wait_for_request("/long")
    assert (request.outcome, request.status) == ("timeout", 200)
    assert 300 <= request.deferred_ms < 1300
    client = connect(deferd)
    client.send_request(uri="/next")
    connection = peer.accept()
    connection.read_kept_request()
    connection.answer_and_stay(b"/next")
    has_answer(client, "/next")


@pytest.fixture(name="start_php")
def fixture_start_php(start_fpm, start_deferd):
    """deferd that keeps connections to a php-fpm of its own."""

    def start(workers, *arguments):
        fpm = start_fpm(workers=workers)
        deferd = start_deferd(fpm, max_workers=workers, log_level="debug",
                              arguments=["--upstream-idle-timeout", "1h", *arguments])
        deferd.wait_for_line("connections can be kept")
        return deferd

    return start


@pytest.fixture(name="gates")
def fixture_gates(workspace, releases):
    """Gates that hold back one request each."""
    made = []

    def make():
        made.append(Gate(workspace.path(f"gate-{len(made)}")))
        releases.append(made[-1].open)
        return made[-1]

    yield make
    for gate in made:
        gate.open()


def finish_uri(gate, workspace, name="marks"):
    return f"/finish.php?gate={gate.path}&marks={workspace.path(name)}"


def test_php_that_goes_on_after_finishing_holds_its_slot(
    start_php, connect, script, gates, workspace
):
    """And no other request is sent on its connection, where it would wait."""
    deferd = start_php(1)
    gate = gates()
    uri = finish_uri(gate, workspace)
    first, second = connect(deferd), connect(deferd)
    response = first.request(uri=uri, script=script("finish.php"))
    assert response.body == b"finished natively\n"
    second.send_request(uri="/hello.php", script=script("hello.php"))
    second.wait_read()
    deferd.wait_for_line("request 2: reading to queued")
    assert second.silent(0.3)
    assert not deferd.has_line("request 2: queued to connecting")
    assert deferd.requests == []
    gate.open()
    answer = second.read_response()
    assert (answer.body, answer.headers["x-pid"]) == (b"hello\n", response.headers["x-pid"])
    request = deferd.wait_for_request(uri)
    assert (request.outcome, request.status, request.done) == ("answered", 200, 0)
    assert request.deferred_ms >= 290
    assert request.response_ms < request.deferred_ms
    assert deferd.wait_for_request("/hello.php").queue_ms >= 290
    assert workspace.lines("marks")[0] == "finished"
    assert workspace.lines("marks")[1].startswith("ran in")


def test_php_that_goes_on_after_finishing_takes_a_place(
    start_php, connect, script, gates, workspace
):
    deferd = start_php(4, "--defer-max-workers", "1")
    opened = [gates() for _ in range(3)]
    clients = []
    for number, gate in enumerate(opened):
        client = connect(deferd)
        client.send_request(uri=finish_uri(gate, workspace, f"marks-{number}"),
                            script=script("finish.php"))
        wait_until(lambda: workspace.lines(f"marks-{number}") == ["finished"],  # noqa: B023
                   what="the deferred work's beginning")
        if number == 0:
            assert client.read_response().body == b"finished natively\n"
        clients.append(client)
    assert all_silent(clients[1:])
    opened[2].open()
    assert clients[2].read_response().body == b"finished natively\n"
    assert clients[1].silent(0.1)
    plain = connect(deferd).request(uri="/hello.php", script=script("hello.php"))
    assert plain.body == b"hello\n"
    opened[0].open()
    assert clients[1].read_response().body == b"finished natively\n"
    opened[1].open()
    assert len(deferd.wait_for_requests(4)) == 4


def test_php_callbacks_take_places(start_php, connect, script, gates, workspace):
    deferd = start_php(3, "--defer-max-workers", "34%")
    opened = [gates() for _ in range(2)]
    clients = [connect(deferd) for _ in opened]
    for number, (client, gate) in enumerate(zip(clients, opened)):
        marks = f"marks-{number}"
        client.send_request(
            uri=f"/tasks.php?tasks=gate&gate={gate.path}&marks={workspace.path(marks)}",
            script=script("tasks.php"),
        )
        wait_until(lambda: workspace.lines(marks) == ["waits 0"],  # noqa: B023
                   what="the callback's beginning")
    assert clients[0].read_response().body == b"answered\n"
    assert clients[1].silent(0.2)
    opened[0].open()
    assert clients[1].read_response().body == b"answered\n"
    opened[1].open()
    assert {request.outcome for request in deferd.wait_for_requests(2)} == {"completed"}


def test_php_whose_callbacks_take_too_long(start_php, connect, script, gates, workspace):
    deferd = start_php(2, "--defer-timeout", "300ms")
    gate = gates()
    uri = f"/tasks.php?tasks=ok,gate,ok&gate={gate.path}&marks={workspace.path('marks')}"
    assert connect(deferd).request(uri=uri, script=script("tasks.php")).body == b"answered\n"
    request = deferd.wait_for_request(uri)
    assert (request.outcome, request.done) == ("timeout", 1)
    deferd.wait_for_cause("took longer than defer.timeout; 2 not done: gate 1, ok 2$")
    assert connect(deferd).request(script=script("hello.php")).body == b"hello\n"
    gate.open()
