"""Connections to php-fpm that are kept: when, for how long, and what ends them."""

import os
import threading
import time

import pytest
from harness import Background, FcgiClient, fcgi, wait_until
from harness.client import encode_request, request_params
from harness.peer import BARRIER_ANSWER

HEAD = b"Content-Type: text/plain\r\n\r\n"
FOR_EVER = ["--upstream-idle-timeout", "1h"]
"""So that no connection closes for having been idle, whatever else is wrong with it."""


@pytest.fixture(name="start_kept")
def fixture_start_kept(start_deferd, peer):
    """A deferd that knows that its peer answers barriers; no connection is open."""

    def start(arguments=(), **options):
        deferd = start_deferd(peer, keepalive="yes", arguments=[*FOR_EVER, *arguments], **options)
        peer.answer_question()
        return deferd

    return start


@pytest.fixture(name="kept")
def fixture_kept(start_kept):
    return start_kept()


@pytest.fixture(name="sender")
def fixture_sender(connect, kept):
    return connect(kept)


def request_kept(peer, client, uri="/", connection=None):
    """A GET on a new connection, or on one that was kept; it is idle afterwards."""
    client.send_request(uri=uri, keep=True)
    connection = connection.next_request() if connection else peer.accept()
    assert connection.read_kept_request().uri == uri
    connection.answer_and_stay(uri.encode())
    assert client.read_response().body == uri.encode()
    return connection


def keep_idle(peer, connect, deferd, count):
    """As many idle connections, the first of them most recently used."""
    clients = [connect(deferd) for _ in range(count)]
    connections = []
    for number, client in enumerate(clients):
        client.send_request(uri=f"/{number}")
        connections.append(peer.accept())
        connections[-1].read_kept_request()
    for client, connection in reversed(list(zip(clients, connections))):
        connection.answer_and_stay()
        assert client.read_response().complete
    return connections


# --- KEEP_CONN ------------------------------------------------------------------------------------


def test_last_of_two_lengths_counts_as_in_php(kept, peer, sender):
    pairs = [*request_params().items(), ("CONTENT_LENGTH", "4"), ("CONTENT_LENGTH", "0")]
    sender.send(encode_request(pairs))
    connection = peer.accept()
    assert connection.read_kept_request().keep
    connection.answer_and_stay()
    assert sender.read_response().complete


def plain_params(method, length):
    params = request_params(method)
    return params if length is None else {**params, "CONTENT_LENGTH": length}


@pytest.mark.parametrize("length", [None, "", "0"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_request_without_a_body_is_sent_with_keep_conn(kept, peer, sender, method, length):
    sender.send(encode_request(plain_params(method, length)))
    connection = peer.accept()
    if method in ("POST", "DELETE"):
        connection.expect_barrier()
        connection.answer_barrier()
    assert connection.read_kept_request().keep
    connection.answer_and_stay()
    assert sender.read_response().complete
    assert connection.silent(0.05)


WITH_A_BODY = {
    "a body": ([("CONTENT_LENGTH", "4")], b"body"),
    "a body and no length": ([], b"body"),
    "a body and an empty length": ([("CONTENT_LENGTH", "")], b"body"),
    "a body of length 0": ([("CONTENT_LENGTH", "0")], b"body"),
    "two lengths": ([("CONTENT_LENGTH", "0"), ("CONTENT_LENGTH", "4")], b"body"),
    "two lengths, 0 last": ([("CONTENT_LENGTH", "4"), ("CONTENT_LENGTH", "0")], b"body"),
    "two lengths, one no number": ([("CONTENT_LENGTH", "0"), ("CONTENT_LENGTH", "abc")], b""),
    "no number": ([("CONTENT_LENGTH", "abc")], b""),
    "negative": ([("CONTENT_LENGTH", "-1")], b""),
    "signed": ([("CONTENT_LENGTH", "+0")], b""),
    "hexadecimal": ([("CONTENT_LENGTH", "0x0")], b""),
    "blank": ([("CONTENT_LENGTH", " 0")], b""),
    "a list": ([("CONTENT_LENGTH", "0,4")], b""),
    "zeros and a byte 0": ([("CONTENT_LENGTH", b"0\0")], b""),
    "too large for any integer": ([("CONTENT_LENGTH", "18446744073709551616")], b""),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", WITH_A_BODY)
def test_request_with_a_body_or_a_length_never_has_keep_conn(kept, peer, sender, method, kind):
    lengths, body = WITH_A_BODY[kind]
    pairs = list(request_params(method).items()) + lengths
    sender.send(encode_request(pairs, body, keep=True))
    connection = peer.accept()
    assert not connection.read_guarded_params().keep
    connection.answer_barrier()
    assert connection.read_stdin() == body
    connection.answer()
    assert sender.read_response().complete
    connection.wait_closed()


def test_request_whose_body_may_still_come_never_has_keep_conn(kept, peer, sender):
    sender.start(keep=True)
    connection = peer.accept()
    assert not connection.read_guarded_params().keep
    connection.answer_barrier()
    sender.end_stdin()
    assert connection.read_stdin() == b""
    connection.answer()
    assert sender.read_response().complete
    connection.wait_closed()


def test_request_that_waited_for_a_worker_has_keep_conn(start_kept, connect, peer):
    """Its STDIN had ended when it came, so nothing is left in the kernel."""
    deferd = start_kept(max_workers=1)
    first, second = connect(deferd), connect(deferd)
    first.send_request(uri="/first")
    connection = peer.accept()
    connection.read_kept_request()
    second.send_request(uri="/second")
    second.wait_read()
    connection.answer_and_stay()
    assert connection.next_request().read_kept_request().keep
    connection.answer_and_stay(b"second")
    assert second.read_response().body == b"second"


# --- when a connection is used again --------------------------------------------------------------


def test_connection_is_used_again(kept, peer, sender):
    connection = request_kept(peer, sender, "/0")
    for number in range(1, 20):
        request_kept(peer, sender, f"/{number}", connection)
    assert peer.idle(0.0)


def test_body_goes_on_a_kept_connection_which_then_closes(kept, peer, sender):
    connection = request_kept(peer, sender)
    sender.send_request("POST", "/upload", b"body")
    assert not connection.next_request().read_guarded_params().keep
    connection.answer_barrier()
    assert connection.read_stdin() == b"body"
    connection.answer(b"thanks")
    assert sender.read_response().body == b"thanks"
    connection.wait_closed()
    assert kept.wait_for_request("/upload").outcome == "answered"


def test_connection_is_not_used_again_before_the_barriers_answer(kept, connect, peer):
    clients = [connect(kept) for _ in range(3)]
    clients[0].send_request(uri="/0")
    first = peer.accept()
    first.read_kept_request()
    first.answer(b"zero")
    assert clients[0].read_response().body == b"zero"
    second = request_kept(peer, clients[1], "/1")
    assert first.silent(0.1)
    first.answer_barrier()
    first.wait_read()
    request_kept(peer, clients[2], "/2", first)
    assert second.silent(0.0)


def test_slot_is_held_until_the_barriers_answer(start_kept, connect, peer):
    deferd = start_kept(max_workers=1)
    client, waiting = connect(deferd), connect(deferd)
    client.send_request(uri="/first")
    connection = peer.accept()
    connection.read_kept_request()
    connection.answer(b"first")
    assert client.read_response().body == b"first"
    waiting.send_request(uri="/second")
    waiting.wait_read()
    assert connection.silent(0.2)
    assert peer.idle(0.0)
    connection.answer_barrier()
    assert connection.next_request().read_kept_request().uri == "/second"
    connection.answer_and_stay(b"second")
    assert waiting.read_response().body == b"second"


def test_most_recently_used_connection_is_taken_first(kept, connect, peer):
    connections = keep_idle(peer, connect, kept, 3)
    clients = [connect(kept) for _ in range(4)]
    for number in range(3):
        clients[number].send_request(uri=f"/again/{number}")
        request = connections[number].next_request().read_kept_request()
        assert request.uri == f"/again/{number}"
    connections[2].answer_and_stay()
    connections[0].answer_and_stay()
    request_kept(peer, clients[3], "/last", connections[0])
    assert connections[2].silent(0.0)


def test_answer_and_barrier_split_at_every_byte(start_kept, connect, peer):
    deferd = start_kept(max_workers=1)
    client = connect(deferd)
    connection = request_kept(peer, client)
    data = fcgi.record(fcgi.STDOUT, 1, HEAD + b"body") + fcgi.end_request() + BARRIER_ANSWER
    for at in range(1, len(data)):
        client.send_request(uri=f"/{at}", keep=True)
        assert connection.next_request().read_kept_request().uri == f"/{at}"
        connection.send_split(data, at)
        assert client.read_response().body == b"body"
    outcomes = {request.outcome for request in deferd.wait_for_requests(len(data))}
    assert outcomes == {"answered"}


def test_answer_and_barrier_byte_by_byte(kept, peer, sender):
    connection = request_kept(peer, sender)
    data = fcgi.record(fcgi.STDOUT, 1, HEAD + b"body") + fcgi.end_request() + BARRIER_ANSWER
    sender.send_request("POST", "/bytes", keep=True)
    connection.next_request().read_guarded_params()
    connection.send_pieces(BARRIER_ANSWER)
    connection.read_stdin()
    connection.expect_barrier()
    connection.send_pieces(data)
    assert sender.read_response().body == b"body"
    request_kept(peer, sender, "/next", connection)


def test_padded_barrier_answer(kept, peer, sender):
    connection = request_kept(peer, sender)
    sender.send_request(uri="/padded", keep=True)
    connection.next_request().read_kept_request()
    content = fcgi.encode_pairs({"FCGI_MPXS_CONNS": "0"})
    answer = fcgi.record(fcgi.GET_VALUES_RESULT, 0, content, padding=255)
    connection.answer()
    connection.send_split(answer, len(answer) - 1)
    assert sender.read_response().complete
    request_kept(peer, sender, "/next", connection)


def test_output_after_the_end_is_dropped(kept, peer, sender):
    connection = request_kept(peer, sender)
    sender.send_request(uri="/chatty", keep=True)
    connection.next_request().read_kept_request()
    connection.answer(b"body")
    assert sender.read_response().body == b"body"
    connection.stdout(b"nobody reads this" * 1000)
    connection.stderr(b"nor this")
    connection.stdout(b"")
    connection.marker()
    connection.answer_barrier()
    connection.wait_read()
    request_kept(peer, sender, "/next", connection)
    assert kept.wait_for_request("/chatty").outcome == "answered"


def test_output_after_the_end_in_the_same_bytes_is_dropped(kept, peer, sender):
    connection = request_kept(peer, sender)
    sender.send_request(uri="/chatty", keep=True)
    connection.next_request().read_kept_request()
    connection.send(fcgi.record(fcgi.STDOUT, 1, HEAD + b"body") + fcgi.end_request()
                    + fcgi.record(fcgi.STDOUT, 1, b"dropped") + BARRIER_ANSWER)
    response = sender.read_response()
    assert (response.body, response.complete) == (b"body", True)
    request_kept(peer, sender, "/next", connection)


def test_slow_client_does_not_spoil_a_kept_connection(kept, connect, peer, sender):
    """Its response is paused upstream; the connection is read from again for the next request."""
    body = b"x" * 2_000_000
    sender.send_request(uri="/slow")
    connection = peer.accept()
    connection.read_kept_request()
    sending = Background(
        lambda: (connection.stdout(HEAD + body), connection.end(), connection.answer_barrier())
    )
    assert sender.read_response().body == body
    sending.result()
    connection.wait_read()
    request_kept(peer, connect(kept), "/next", connection)


# --- what spoils a connection ---------------------------------------------------------------------

JUNK = {
    "a byte": b"\x01",
    "part of a header": fcgi.record(fcgi.STDOUT, 1, b"x")[:7],
    "a header": fcgi.record(fcgi.STDOUT, 1, b"x")[:8],
    "output": fcgi.record(fcgi.STDOUT, 1, b"x"),
    "an end": fcgi.end_request(),
    "a barrier's answer": BARRIER_ANSWER,
    "part of one": BARRIER_ANSWER[:5],
    "no FastCGI": b"\xff" * 8,
}
SPOILT = pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())


@SPOILT
def test_connection_with_junk_behind_the_barriers_answer_is_not_used_again(
    kept, peer, sender, junk
):
    sender.send_request(uri="/first", keep=True)
    connection = peer.accept()
    connection.read_kept_request()
    connection.send(fcgi.record(fcgi.STDOUT, 1, HEAD + b"first") + fcgi.end_request()
                    + BARRIER_ANSWER + junk)
    assert sender.read_response().body == b"first"
    connection.wait_closed()
    request_kept(peer, sender, "/next")
    assert kept.wait_for_request("/first").outcome == "answered"
    assert kept.causes == []


@SPOILT
def test_idle_connection_with_junk_closes_and_nothing_else_happens(kept, peer, sender, junk):
    connection = request_kept(peer, sender, "/first")
    connection.send(junk)
    connection.wait_closed()
    before = list(kept.lines)
    request_kept(peer, sender, "/next")
    kept.wait_for_request("/next")
    assert [line for line in kept.lines[len(before):] if "request=" not in line] == []


def test_idle_connection_that_the_peer_closes_is_closed(kept, peer, sender):
    before = kept.fds()
    connection = request_kept(peer, sender, "/first")
    assert kept.sockets() == sum("socket:" in fd for fd in before) + 1
    connection.half_close()
    connection.wait_closed()
    kept.wait_for_fds(before)
    request_kept(peer, sender, "/next")


@pytest.mark.parametrize("extra", [fcgi.end_request(), fcgi.record(fcgi.STDOUT, 2, b"x"),
                                   fcgi.record(fcgi.STDOUT, 0, b"x"), b"\xff" * 8],
                         ids=["an end", "another id", "id 0", "no FastCGI"])
def test_malformed_record_between_the_end_and_the_barriers_answer(kept, peer, sender, extra):
    sender.send_request(uri="/first", keep=True)
    connection = peer.accept()
    connection.read_kept_request()
    connection.answer(b"first")
    assert sender.read_response().body == b"first"
    connection.send(extra)
    connection.wait_closed()
    assert kept.wait_for_request("/first").outcome == "answered"
    request_kept(peer, sender, "/next")


def test_connection_that_ends_instead_of_the_barriers_answer(kept, peer, sender):
    """A worker that had served its pm.max_requests: the response is whole."""
    sender.send_request(uri="/last of a worker", keep=True)
    connection = peer.accept()
    connection.read_kept_request()
    connection.answer(b"whole")
    connection.close()
    assert sender.read_response().body == b"whole"
    assert kept.wait_for_request("/last of a worker").outcome == "answered"
    assert kept.causes == []
    request_kept(peer, sender, "/next")


# --- answers that nobody asked for ----------------------------------------------------------------


def assert_malformed(deferd, connection, client):
    response = client.read_response()
    assert (response.status, response.complete) == (502, True)
    connection.wait_closed()
    deferd.wait_for_cause(r"malformed record \(GET_VALUES_RESULT")


@pytest.mark.parametrize("keepalive", ["yes", "no"])
@pytest.mark.parametrize("request_id", [0, 1])
def test_unsolicited_answer_is_malformed(start_deferd, connect, peer, keepalive, request_id):
    deferd = start_deferd(peer, keepalive=keepalive)
    if keepalive == "yes":
        peer.answer_question()
    client = connect(deferd)
    client.send_request()
    connection = peer.accept_request()
    connection.send(fcgi.record(fcgi.GET_VALUES_RESULT, request_id, b"\x01\x01A1"))
    assert_malformed(deferd, connection, client)


def test_answer_before_the_end_is_malformed(kept, peer, sender):
    """It can only come from the barrier behind, which the worker reads when it is free."""
    sender.send_request(uri="/first")
    connection = peer.accept()
    connection.read_kept_request()
    connection.stdout(HEAD + b"part")
    connection.answer_barrier()
    assert not sender.read_response().complete
    connection.wait_closed()
    assert kept.wait_for_request("/first").outcome == "upstream_failed"


def test_second_answer_to_the_barrier_in_front_is_malformed(kept, peer, sender):
    sender.send_request("POST", "/", b"body")
    connection = peer.accept()
    connection.read_guarded_params()
    connection.send(BARRIER_ANSWER * 2)
    assert_malformed(kept, connection, sender)


# --- what an upstream can do ----------------------------------------------------------------------


def answer_without_keeping(peer, client, uri="/", body=b""):
    """Not a barrier, no KEEP_CONN, and the connection closes behind the response."""
    client.send_request("POST" if body else "GET", uri, body, keep=True)
    connection = peer.accept_request()
    assert (connection.request.keep, connection.request.stdin) == (False, body)
    assert connection.silent(0.02)
    connection.answer(uri.encode())
    assert client.read_response().body == uri.encode()
    connection.wait_closed()


def test_question_is_asked_at_the_start_and_its_connection_kept(start_deferd, connect, peer):
    deferd = start_deferd(peer, keepalive="yes")
    connection = peer.answer_question(stay=True)
    request_kept(peer, connect(deferd), "/first", connection)
    assert peer.idle(0.0)


@pytest.mark.parametrize("how", ["close", "half_close"])
def test_old_php_is_not_kept(start_deferd, connect, peer, how):
    deferd = start_deferd(peer, keepalive="yes")
    question = peer.accept_question()
    question.answer_barrier()
    question.wait_read()
    getattr(question, how)()
    deferd.wait_for_line("NOTICE: upstream .*: closes after GET_VALUES.* are not kept")
    client = connect(deferd)
    answer_without_keeping(peer, client, "/first")
    answer_without_keeping(peer, client, "/second", b"body")
    assert peer.idle(), "it is asked again"


def test_peer_that_never_answers_is_used_without_keeping(start_deferd, connect, peer):
    deferd = start_deferd(peer, keepalive="yes")
    question = peer.accept_question()
    client = connect(deferd)
    answer_without_keeping(peer, client, "/first")
    answer_without_keeping(peer, client, "/second", b"body")
    assert question.silent(0.0)
    assert peer.idle(), "it is asked again"


def test_peer_that_answers_late_is_kept_from_then_on(start_deferd, connect, peer):
    deferd = start_deferd(peer, keepalive="yes")
    question = peer.accept_question()
    client = connect(deferd)
    answer_without_keeping(peer, client, "/first")
    question.send_pieces(BARRIER_ANSWER * 2)
    request_kept(peer, client, "/second", question)


def test_request_sent_before_the_answer_is_not_kept(start_deferd, connect, peer):
    deferd = start_deferd(peer, keepalive="yes")
    question = peer.accept_question()
    client = connect(deferd)
    client.send_request(uri="/before", keep=True)
    connection = peer.accept_request()
    question.send(BARRIER_ANSWER * 2)
    question.wait_read()
    connection.answer(b"before")
    assert client.read_response().body == b"before"
    connection.wait_closed()
    request_kept(peer, client, "/after", question)


@pytest.mark.parametrize("answer", [b"", BARRIER_ANSWER[:9], b"\xff" * 8],
                         ids=["nothing", "part of an answer", "no FastCGI"])
def test_question_that_was_not_answered_is_asked_again(start_deferd, connect, peer, answer):
    deferd = start_deferd(peer, keepalive="yes")
    question = peer.accept_question()
    question.send(answer)
    if answer[:1] == b"\xff":
        question.wait_closed()
    question.close()
    client = connect(deferd)
    answer_without_keeping(peer, client, "/first")
    question = peer.answer_question(stay=True)
    request_kept(peer, client, "/second", question)


def test_absent_upstream_is_asked_when_it_has_served_a_request(
    start_deferd, start_peer, connect, workspace
):
    path = workspace.path("later.sock")
    deferd = start_deferd(path, keepalive="yes")
    peer = start_peer(path)
    client = connect(deferd)
    answer_without_keeping(peer, client, "/first")
    question = peer.answer_question(stay=True)
    request_kept(peer, client, "/second", question)


def test_keepalive_no_asks_and_keeps_nothing(start_deferd, connect, peer):
    deferd = start_deferd(peer, keepalive="no")
    assert peer.idle()
    client = connect(deferd)
    answer_without_keeping(peer, client, "/first")
    answer_without_keeping(peer, client, "/second", b"body")
    assert peer.idle()


def test_question_takes_no_worker_from_requests(start_deferd, connect, peer):
    """Its connection is kept only if a worker is left for it: idle, it pins one (fact 1)."""
    deferd = start_deferd(peer, keepalive="yes", max_workers=1, arguments=FOR_EVER)
    question = peer.accept_question()
    client = connect(deferd)
    client.send_request()
    connection = peer.accept_request()
    question.send(BARRIER_ANSWER * 2)
    question.wait_closed()
    connection.answer()
    assert client.read_response().complete


def unlink(peer):
    """Nobody listens there any more; the connections stay."""
    peer.close()
    os.unlink(peer.address.path)


def test_upstream_that_came_back_is_asked_anew(start_deferd, start_peer, connect, peer):
    deferd = start_deferd(peer, keepalive="yes", max_workers=2, arguments=FOR_EVER)
    kept = peer.answer_question(stay=True)
    first, second = connect(deferd), connect(deferd)
    first.send_request(uri="/first")
    kept.read_kept_request()
    unlink(peer)
    second.send_request("POST", "/second", keep=True)
    assert second.read_response().status == 502
    peer = start_peer(peer.address)
    kept.answer_and_stay(b"first")
    assert first.read_response().body == b"first"
    kept.wait_closed()
    answer_without_keeping(peer, second, "/third")
    question = peer.answer_question(stay=True)
    request_kept(peer, second, "/fourth", question)


def test_idle_connections_close_when_the_upstream_cannot_be_connected(kept, connect, peer):
    """What is known of the php-fpm behind them may not hold for the next one."""
    used, one, two = keep_idle(peer, connect, kept, 3)
    client = connect(kept)
    client.send_request()
    used.next_request().read_kept_request()
    unlink(peer)
    used.close()
    assert client.read_response().status == 502
    one.wait_closed()
    two.wait_closed()


def test_question_that_waits_ends_when_the_upstream_cannot_be_connected(
    start_deferd, start_peer, connect, peer
):
    """It is asked once at a time, and a drain knows of the connection that asks."""
    deferd = start_deferd(peer, keepalive="yes")
    question = peer.accept_question()
    unlink(peer)
    client = connect(deferd)
    assert client.request(keep=True).status == 502
    peer = start_peer(peer.address)
    answer_without_keeping(peer, client, "/next")
    peer.accept_question()
    assert deferd.stop(timeout=5.0) == 0
    question.wait_closed()


# --- how long -------------------------------------------------------------------------------------


def test_idle_connection_closes_after_the_idle_timeout(start_kept, connect, peer):
    deferd = start_kept(arguments=["--upstream-idle-timeout", "300ms"])
    connection = request_kept(peer, connect(deferd))
    begun = time.monotonic()
    connection.wait_closed(timeout=5.0)
    assert 0.28 <= time.monotonic() - begun < 3.0


def test_default_idle_timeout_is_a_second(start_deferd, connect, peer):
    deferd = start_deferd(peer, keepalive="yes")
    connection = request_kept(peer, connect(deferd), connection=peer.answer_question(stay=True))
    begun = time.monotonic()
    connection.wait_closed(timeout=5.0)
    assert 0.98 <= time.monotonic() - begun < 3.0


def test_each_use_begins_the_idle_time_anew(start_kept, connect, peer):
    deferd = start_kept(arguments=["--upstream-idle-timeout", "400ms"])
    used, unused = keep_idle(peer, connect, deferd, 2)
    client = connect(deferd)
    begun = time.monotonic()
    while not used.silent(0.1) or unused.silent(0.0):
        request_kept(peer, client, "/again", used)
    assert time.monotonic() - begun >= 0.2
    unused.wait_closed()
    assert used.silent(0.0)
    begun = time.monotonic()
    used.wait_closed(timeout=5.0)
    assert time.monotonic() - begun >= 0.2


def test_running_request_and_deferred_phase_are_not_idle(start_kept, connect, peer):
    deferd = start_kept(arguments=["--upstream-idle-timeout", "100ms"])
    client = connect(deferd)
    client.send_request(keep=True)
    connection = peer.accept()
    connection.read_kept_request()
    assert connection.silent(0.3)
    connection.answer()
    assert client.read_response().complete
    assert connection.silent(0.3)
    connection.answer_barrier()
    connection.wait_closed(timeout=5.0)


# --- draining -------------------------------------------------------------------------------------


def test_drain_with_idle_connections_ends_at_once(start_kept, connect, peer):
    deferd = start_kept()
    connections = keep_idle(peer, connect, deferd, 3)
    begun = time.monotonic()
    assert deferd.stop() == 0
    assert time.monotonic() - begun < 2.0
    for connection in connections:
        connection.wait_closed()


def test_drain_while_the_question_is_not_answered_ends_at_once(start_deferd, peer):
    deferd = start_deferd(peer, keepalive="yes")
    question = peer.accept_question()
    begun = time.monotonic()
    assert deferd.stop() == 0
    assert time.monotonic() - begun < 2.0
    question.wait_closed()


def test_drain_waits_for_the_barriers_answer(kept, peer, sender):
    """The worker may still be at work for the application; then the connection closes."""
    sender.send_request()
    connection = peer.accept()
    connection.read_kept_request()
    connection.answer(b"answered")
    assert sender.read_response().body == b"answered"
    stopping = Background(kept.stop)
    wait_until(lambda: not os.path.exists(kept.address.path), what="the drain's beginning")
    assert connection.silent(0.2)
    assert not stopping.done
    connection.answer_barrier()
    connection.wait_closed()
    assert stopping.result() == 0


# --- php-fpm --------------------------------------------------------------------------------------


@pytest.fixture(name="hello")
def fixture_hello(script):
    return {"script": script("hello.php"), "uri": "/hello.php"}


def keeping(start_deferd, fpm, **options):
    deferd = start_deferd(fpm, log_level="debug", **options)
    deferd.wait_for_line("connections can be kept")
    return deferd


def test_php_fpm_worker_is_free_again_after_the_idle_timeout(
    start_fpm, start_deferd, connect, hello
):
    fpm = start_fpm(workers=1)
    deferd = keeping(start_deferd, fpm, max_workers=1,
                     arguments=["--upstream-idle-timeout", "600ms"])
    with FcgiClient(fpm.address) as other:
        assert connect(deferd).request(**hello).body == b"hello\n"
        begun = time.monotonic()
        assert other.request(**hello).body == b"hello\n"
        assert 0.5 <= time.monotonic() - begun < 5.0


def test_php_fpm_serves_many_requests_on_one_connection(
    start_fpm, start_deferd, connect, hello
):
    fpm = start_fpm(workers=2)
    deferd = keeping(start_deferd, fpm, max_workers=1, arguments=FOR_EVER)
    client = connect(deferd)
    pids = {client.request(**hello, keep=True).headers["x-pid"]}
    sockets = deferd.sockets()
    pids |= {client.request(**hello, keep=True).headers["x-pid"] for _ in range(50)}
    assert len(pids) == 1, "not on one connection"
    assert deferd.sockets() == sockets


def test_php_fpm_that_comes_up_late_is_asked_without_delaying_a_request(
    start_fpm, start_deferd, connect, workspace, hello
):
    """Its only worker must not be pinned by the connection that asks."""
    path = workspace.path("late.sock")
    deferd = start_deferd(path, keepalive="yes", max_workers=1, arguments=FOR_EVER)
    start_fpm(workers=1, listen=path)
    clients = [connect(deferd) for _ in range(10)]
    for client in clients:
        client.send_request(**hello)
    for client in clients:
        assert client.read_response(timeout=5.0).body == b"hello\n"


def test_body_that_php_leaves_unread_is_not_run(
    start_fpm, start_deferd, connect, script, workspace
):
    """Fact 7: a request within a body, which a kept connection would run."""
    fpm = start_fpm(workers=1, ini={"enable_post_data_reading": "0"})
    deferd = keeping(start_deferd, fpm, max_workers=1)
    smuggled = encode_request(request_params(
        uri=f"/load.php?marks={workspace.path('marks')}", script=script("load.php")
    ))
    client = connect(deferd)
    for _ in range(5):
        client.send_request("POST", "/unread.php", smuggled * 3, script=script("unread.php"),
                            keep=True)
        assert client.read_response().body == b"done"
        assert client.request(script=script("hello.php"), keep=True).body == b"hello\n"
    assert deferd.stop() == 0
    fpm.end()
    assert workspace.lines("marks") == []


def test_every_request_runs_once_though_workers_are_recycled(
    start_fpm, start_deferd, connect, script, workspace
):
    """pm.max_requests ends workers under kept connections all the time (fact 6)."""
    fpm = start_fpm(workers=3, pool={"pm.max_requests": 3})
    deferd = keeping(start_deferd, fpm, max_workers=3)
    uri = f"/load.php?marks={workspace.path('marks')}"
    answers = []

    def send(count):
        with FcgiClient(deferd.address) as client:
            for number in range(count):
                method, body = [("GET", b""), ("POST", b""), ("POST", b"body")][number % 3]
                answers.append(
                    client.request(method, uri, body, script=script("load.php"), keep=True).body
                )

    threads = [threading.Thread(target=send, args=(30,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"ok\n"] * 120
    assert {request.outcome for request in deferd.wait_for_requests(120)} == {"completed"}
    lines = workspace.lines("marks")
    for what in ("registered", "ran"):
        found = [line for line in lines if line.startswith(what)]
        assert (len(found), len(set(found))) == (120, 120)
