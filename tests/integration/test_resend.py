"""A connection is lost under a request: what is sent again, and what never is.

"Never twice" rests on the barrier in front of a request: as long as php-fpm has not
answered it, the request behind it was not run.
"""

import os
import select
import time

import pytest
from harness import Background, fcgi, wait_until
from harness.peer import BARRIER_ANSWER

HEAD = b"Content-Type: text/plain\r\n\r\n"
UNRUN = "sent again, for it was not run"
SAFE = "sent again, for its method has no side effects"
MAYBE_RUN = "it may have been run; answered 502"
BEGUN = "its response had begun; answered 502"
AGAIN_ALREADY = "it was sent again already; answered 502"

UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "PURGE", "get"]
IS_SAFE = ["GET", "HEAD", "OPTIONS"]
WAYS = ["close", "half_close", "reset"]


@pytest.fixture(name="start_kept")
def fixture_start_kept(start_deferd):
    """A deferd that knows that its peer answers barriers."""

    def start(peer, **options):
        deferd = start_deferd(peer, keepalive="yes", **options)
        peer.answer_question()
        return deferd

    return start


@pytest.fixture(name="kept")
def fixture_kept(start_kept, peer):
    return start_kept(peer)


@pytest.fixture(name="sender")
def fixture_sender(connect, kept):
    return connect(kept)


def assert_sent_again(deferd, why, times=1, uri="/", outcome="answered"):
    """And nothing else was said of the request, which was answered."""
    request = deferd.wait_for_request(uri)
    assert (request.status, request.outcome) == (200, outcome)
    causes = deferd.causes_of(request)
    assert [cause.endswith(why) for cause in causes] == [True] * times
    return causes


def assert_502(deferd, client, why, uri="/"):
    response = client.read_response()
    assert (response.status, response.complete) == (502, True)
    request = deferd.wait_for_request(uri)
    assert (request.status, request.outcome) == (502, "upstream_failed")
    assert deferd.causes_of(request)[-1].endswith(why)
    return deferd.causes_of(request)


def serve(peer, body, answer=b"served"):
    """The whole request with a body, on a new connection, and a response."""
    connection = peer.accept()
    connection.read_guarded_params()
    connection.answer_barrier()
    assert connection.read_stdin() == body
    connection.answer(answer)


# --- a request with a body ------------------------------------------------------------------------


def test_body_is_not_sent_before_the_barriers_answer(kept, peer, sender):
    sender.send_request("POST", "/", b"body")
    connection = peer.accept()
    connection.read_guarded_params()
    assert connection.silent(0.2)
    connection.answer_barrier()
    assert connection.read_stdin() == b"body"
    connection.answer(b"served")
    assert sender.read_response().body == b"served"
    assert_sent_again(kept, UNRUN, 0)


def test_body_that_comes_after_the_head_waits_for_the_answer_too(kept, peer, sender):
    sender.start("POST", "/", body_length=4)
    connection = peer.accept()
    connection.read_guarded_params()
    sender.stdin(b"body")
    sender.end_stdin()
    assert connection.silent(0.2)
    connection.answer_barrier()
    assert connection.read_stdin() == b"body"
    connection.answer(b"served")
    assert sender.read_response().body == b"served"


def nothing_read(connection):
    pass


def barrier_read(connection):
    connection.expect_barrier()


def head_read(connection):
    connection.read_guarded_params()


def answer_cut(connection):
    connection.read_guarded_params()
    connection.send(BARRIER_ANSWER[:-1])
    connection.wait_read()


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("stage", [nothing_read, barrier_read, head_read, answer_cut],
                         ids=lambda stage: stage.__name__)
def test_lost_before_the_barriers_answer_is_run_on_another_connection(
    kept, peer, sender, stage, how
):
    sender.send_request("POST", "/", b"body")
    connection = peer.accept()
    stage(connection)
    getattr(connection, how)()
    serve(peer, b"body")
    assert sender.read_response().body == b"served"
    (cause,) = assert_sent_again(kept, UNRUN)
    assert peer.address.path in cause


@pytest.mark.parametrize("how", ["close", "reset"])
def test_lost_before_the_barriers_answer_over_tcp(start_deferd, start_peer, connect, how):
    peer = start_peer("127.0.0.1:0")
    deferd = start_deferd(peer, keepalive="yes", log_level="debug")
    question = peer.accept_question()
    question.send(BARRIER_ANSWER * 2)
    deferd.wait_for_line("connections can be kept")
    question.half_close()
    question.wait_closed()
    client = connect(deferd)
    client.send_request("POST", "/", b"body")
    connection = peer.accept()
    connection.read_guarded_params()
    getattr(connection, how)()
    serve(peer, b"body")
    assert client.read_response().body == b"served"


def answer_taken(connection):
    connection.wait_read()


def part_of_the_body(connection):
    connection.read_stdin(1)


def whole_body(connection):
    connection.read_stdin()


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("stage", [answer_taken, part_of_the_body, whole_body],
                         ids=lambda stage: stage.__name__)
def test_lost_after_the_barriers_answer_is_never_sent_again(kept, peer, sender, stage, how):
    sender.start("POST", "/", body_length=8)
    sender.stdin(b"body")
    connection = peer.accept()
    connection.read_guarded_params()
    connection.answer_barrier()
    if stage is whole_body:
        sender.stdin(b"rest")
        sender.end_stdin()
    stage(connection)
    getattr(connection, how)()
    causes = assert_502(kept, sender, MAYBE_RUN)
    assert len(causes) == 1
    assert peer.idle()


def test_lost_together_with_the_barriers_answer_is_never_sent_again(kept, peer, sender):
    """The answer and the end are read one after the other, without a chance to write between."""
    sender.send_request("POST", "/", b"body")
    connection = peer.accept()
    connection.read_guarded_params()
    connection.send(BARRIER_ANSWER)
    connection.close()
    assert_502(kept, sender, MAYBE_RUN)
    assert peer.idle()


def read_barrier_alone(peer):
    """As a php-fpm worker that was told to end: it answers the barrier, and looks no further."""
    connection = peer.accept()
    record = fcgi.record(fcgi.GET_VALUES, 0, fcgi.encode_pairs([("FCGI_MPXS_CONNS", "")]))
    assert connection.read_bytes(len(record)) == record
    connection.answer_barrier()
    return connection


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("body", [b"", b"body"], ids=["no body", "body"])
def test_request_left_unread_behind_an_answered_barrier_is_sent_again(
    kept, peer, sender, body, together
):
    """deferd knows whether its peer has read it, and sends nothing behind it before."""
    sender.send_request("POST", "/", body)
    connection = read_barrier_alone(peer)
    if not together:
        connection.wait_read()
        time.sleep(0.05)  # deferd has every chance to send on, and must not
    connection.close()
    again = peer.accept()
    again.read_guarded_params()
    again.answer_barrier()
    assert again.read_stdin() == body
    again.answer(b"served")
    again.close()
    assert sender.read_response().body == b"served"
    assert_sent_again(kept, UNRUN)


def test_request_that_is_read_late_behind_its_barrier(kept, peer, sender):
    """What follows it is not sent before, and then soon."""
    sender.send_request("POST", "/", b"body")
    connection = read_barrier_alone(peer)
    connection.request.id = 1
    connection.wait_read()
    head = connection.read_bytes(8)
    assert head == fcgi.header(fcgi.BEGIN_REQUEST, 1, 8)
    time.sleep(0.05)
    rest = connection.read_bytes()
    assert rest.endswith(fcgi.record(fcgi.PARAMS)), "something came behind the params"
    assert connection.read_stdin() == b"body"
    connection.answer(b"served")
    connection.close()
    assert sender.read_response().body == b"served"
    assert_sent_again(kept, UNRUN, 0)


def test_large_body_arrives_whole_after_a_loss(kept, peer, sender):
    body = bytes(range(256)) * 20000
    sending = Background(sender.send_request, "POST", "/", body)
    for _ in range(3):
        connection = peer.accept()
        connection.read_guarded_params()
        connection.close()
    serve(peer, body)
    sending.result()
    assert sender.read_response().body == b"served"
    assert_sent_again(kept, UNRUN, 3)


def test_large_body_behind_an_answered_barrier(kept, peer, sender):
    body = bytes(range(256)) * 20000
    sending = Background(sender.send_request, "POST", "/", body)
    serve(peer, body)
    sending.result()
    assert sender.read_response().body == b"served"
    assert_sent_again(kept, UNRUN, 0)


def test_body_behind_a_head_that_was_lost_half_written(start_deferd, start_peer, connect):
    """The connection it is lost on is slow to take the head; the next one takes it at once."""
    slow, fast = start_peer(), start_peer("127.0.0.1:0")
    deferd = start_deferd(slow, keepalive="yes", max_params="1M",
                          arguments=["--upstream", str(fast.address), "--max-workers", "1"])
    slow.answer_question()
    question = fast.accept_question()
    question.send(BARRIER_ANSWER * 2)
    question.half_close()
    question.wait_closed()
    client = connect(deferd)
    client.start("POST", body_length=4, params={f"P{n}": "x" * 60000 for n in range(4)})
    client.stdin(b"body")
    client.end_stdin()
    connection = slow.accept()
    assert select.select([connection.sock], [], [], 10.0)[0], "nothing of the head came"
    slow.close()
    os.unlink(slow.address.path)
    connection.close()
    serve(fast, b"body")
    assert client.read_response().body == b"served"
    assert_sent_again(deferd, UNRUN)


def test_body_that_comes_late_and_in_pieces_after_a_loss(kept, peer, sender):
    sender.start("POST", "/", body_length=8)
    peer.accept().close()
    kept.wait_for_cause(UNRUN)
    connection = peer.accept()
    connection.read_guarded_params()
    connection.answer_barrier()
    connection.wait_read()
    for piece in (b"one ", b"two!"):
        sender.stdin(piece)
        assert connection.read_stdin(4) == piece
    sender.end_stdin()
    connection.read_stdin()
    connection.answer(b"served")
    assert sender.read_response().body == b"served"


def test_request_whose_connections_all_break_is_given_up(kept, peer, sender):
    sender.send_request("POST", "/", b"body")
    for _ in range(9):
        connection = peer.accept()
        connection.read_guarded_params()
        connection.close()
    causes = assert_502(kept, sender, AGAIN_ALREADY)
    assert [cause.endswith(UNRUN) for cause in causes] == [True] * 8 + [False]
    assert peer.idle()


def test_malformed_answer_in_the_barriers_place_is_not_sent_again(kept, peer, sender):
    """deferd closes, not the peer: what it has in its buffer it may still run."""
    sender.send_request("POST", "/", b"body")
    connection = peer.accept()
    connection.read_guarded_params()
    connection.send(b"\xff" * 8)
    connection.wait_closed()
    assert_502(kept, sender, BEGUN)
    assert peer.idle()


def test_part_of_a_body_records_header_is_no_body(start_deferd, connect, start_peer):
    """The header of a STDIN record was read before the loss, its content comes while it waits."""
    peer = start_peer(backlog=0)
    deferd = start_deferd(peer, max_workers=1)
    client = connect(deferd)
    client.start("GET", "/", body_length=4)
    client.send(fcgi.header(fcgi.STDIN, 1, 4))
    client.wait_read()
    connection = peer.accept()
    connection.read_params()
    filler = connect(peer)
    connection.close()
    deferd.wait_for_cause(SAFE)
    client.send(b"body")
    client.end_stdin()
    deferd.wait_for_line("backlog is full")
    peer.accept().close()
    filler.close()
    second = peer.accept_request()
    assert second.request.stdin == b"body"
    second.answer(b"served")
    assert client.read_response().body == b"served"


# --- a request without a body ---------------------------------------------------------------------


@pytest.mark.parametrize("method", UNSAFE)
def test_unsafe_method_has_a_barrier_in_front_and_behind(kept, peer, sender, method):
    sender.send_request(method)
    connection = peer.accept()
    connection.read_guarded_params()
    assert connection.silent(0.05), "sent too early: lost now, none could tell if it was run"
    connection.answer_barrier()
    assert connection.request.params["REQUEST_METHOD"] == method
    connection.read_stdin()
    connection.expect_barrier()
    connection.answer_and_stay(b"served")
    assert sender.read_response().body == b"served"


@pytest.mark.parametrize("method", IS_SAFE)
def test_safe_method_has_a_barrier_behind_alone(kept, peer, sender, method):
    sender.send_request(method)
    connection = peer.accept()
    assert connection.read_kept_request().params["REQUEST_METHOD"] == method
    connection.answer_and_stay(b"served")
    assert sender.read_response().complete


@pytest.mark.parametrize("method", IS_SAFE)
def test_safe_method_with_a_body_has_a_barrier_in_front(kept, peer, sender, method):
    sender.send_request(method, "/", b"body")
    serve(peer, b"body")
    assert sender.read_response().complete


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("method", UNSAFE)
def test_unsafe_method_without_a_body_lost_before_the_barriers_answer(
    kept, peer, sender, method, how
):
    sender.send_request(method)
    connection = peer.accept()
    connection.read_guarded_params()
    getattr(connection, how)()
    again = peer.accept()
    again.read_guarded_request()
    again.answer_and_stay(b"served")
    assert sender.read_response().body == b"served"
    assert_sent_again(kept, UNRUN)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("method", UNSAFE)
def test_unsafe_method_without_a_body_lost_after_the_barriers_answer(
    kept, peer, sender, method, how
):
    sender.send_request(method)
    connection = peer.accept()
    connection.read_guarded_request()
    getattr(connection, how)()
    assert len(assert_502(kept, sender, MAYBE_RUN)) == 1
    assert peer.idle()


@pytest.mark.parametrize("keepalive", ["yes", "no"])
@pytest.mark.parametrize("method", IS_SAFE)
def test_safe_method_lost_before_its_first_byte_is_sent_once_more(
    start_deferd, connect, peer, method, keepalive
):
    deferd = start_deferd(peer, keepalive=keepalive)
    if keepalive == "yes":
        peer.answer_question()
    client = connect(deferd)
    client.send_request(method)
    peer.accept_request().close()
    again = accept_again(peer, keepalive)
    again.answer(b"served")
    again.half_close()
    response = client.read_response()
    assert (response.status, response.complete) == (200, True)
    assert_sent_again(deferd, SAFE, outcome="unreported" if method == "HEAD" else "answered")


def accept_again(peer, keepalive):
    """A request without a body that was lost once: now it has a barrier in front, if any has."""
    connection = peer.accept()
    if keepalive == "yes":
        connection.read_guarded_request()
    else:
        connection.read_request()
    return connection


@pytest.mark.parametrize("method", IS_SAFE)
def test_safe_method_lost_again_before_the_barriers_answer_is_sent_again(
    kept, peer, sender, method
):
    """php-fpm restarts: one connection after the other is lost, none with a request that was run."""
    sender.send_request(method)
    peer.accept_request().close()
    for _ in range(3):
        connection = peer.accept()
        connection.read_guarded_params()
        connection.close()
    peer.accept().read_guarded_request()
    kept.wait_for_cause(UNRUN)
    assert [cause.text.endswith(UNRUN) for cause in kept.causes] == [False] + [True] * 3


@pytest.mark.parametrize("keepalive", ["yes", "no"])
@pytest.mark.parametrize("method", IS_SAFE)
def test_safe_method_lost_twice_is_502(start_deferd, connect, peer, method, keepalive):
    deferd = start_deferd(peer, keepalive=keepalive)
    if keepalive == "yes":
        peer.answer_question()
    client = connect(deferd)
    client.send_request(method)
    peer.accept_request().close()
    accept_again(peer, keepalive).close()
    causes = assert_502(deferd, client, AGAIN_ALREADY)
    assert [cause.endswith(SAFE) for cause in causes] == [True, False]
    assert peer.idle()


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("body", [b"", b"body"], ids=["no body", "body"])
def test_without_barriers_an_unsafe_method_is_sent_once(deferd, peer, client, method, body):
    client.send_request(method, "/", body)
    peer.accept_request().close()
    assert_502(deferd, client, MAYBE_RUN)
    assert peer.idle()


def test_safe_method_whose_body_has_begun_is_sent_once(deferd, peer, client):
    client.start("GET", "/", body_length=8)
    client.stdin(b"body")
    connection = peer.accept()
    connection.read_params()
    assert connection.read_stdin(4) == b"body"
    connection.close()
    assert_502(deferd, client, MAYBE_RUN)
    assert peer.idle()


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("keepalive", ["yes", "no"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_safe_method_lost_after_its_first_byte_is_not_sent_again(
    start_deferd, connect, peer, stream, keepalive, how
):
    deferd = start_deferd(peer, keepalive=keepalive)
    if keepalive == "yes":
        peer.answer_question()
    client = connect(deferd)
    client.send_request()
    connection = peer.accept_request()
    getattr(connection, stream)(b"X")
    connection.wait_read()
    getattr(connection, how)()
    assert len(assert_502(deferd, client, BEGUN)) == 1
    assert peer.idle()


def test_malformed_answer_to_a_safe_method_is_not_sent_again(kept, peer, sender):
    sender.send_request()
    connection = peer.accept_request()
    connection.send(b"\xff" * 8)
    connection.wait_closed()
    assert_502(kept, sender, BEGUN)
    assert peer.idle()


def test_end_without_a_response_is_not_sent_again(kept, peer, sender):
    sender.send_request()
    connection = peer.accept_request()
    connection.end(protocol_status=fcgi.OVERLOADED)
    assert_502(kept, sender, BEGUN)
    assert peer.idle()


# --- kept connections that have gone --------------------------------------------------------------


def keep_idle(deferd, connect, peer, count):
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


def test_request_on_a_kept_connection_that_ends_under_it(kept, connect, peer):
    (connection,) = keep_idle(kept, connect, peer, 1)
    for method, why in (("GET", SAFE), ("POST", UNRUN)):
        client = connect(kept)
        client.send_request(method, f"/{method}")
        assert not connection.silent(1.0)
        connection.close()
        connection = peer.accept()
        connection.read_guarded_request()
        connection.answer_and_stay(b"served")
        assert client.read_response().body == b"served"
        assert_sent_again(kept, why, uri=f"/{method}")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_request_sent_again_takes_no_other_kept_connection(kept, connect, peer, method):
    """A reload of php-fpm ends all idle connections at once, and a GET is sent again only once."""
    first, second = keep_idle(kept, connect, peer, 2)
    client = connect(kept)
    client.send_request(method)
    assert not first.silent(1.0)
    first.close()
    connection = peer.accept()
    connection.read_guarded_request()
    connection.answer_and_stay(b"served")
    assert client.read_response().body == b"served"
    second.wait_closed()


# --- a client that leaves -------------------------------------------------------------------------


def test_client_that_leaves_while_its_request_waits_to_be_sent_again(
    start_kept, connect, start_peer
):
    peer = start_peer()
    deferd = start_kept(peer, max_workers=1, arguments=["--class", "first,priority=1"])
    gone, urgent = connect(deferd), connect(deferd)
    gone.send_request("POST", "/gone", b"body")
    connection = peer.accept()
    connection.read_guarded_params()
    urgent.send_request(uri="/urgent", params={"DEFERD_CLASS": "first"})
    urgent.wait_read()
    connection.close()
    other = peer.accept_request()
    assert other.request.uri == "/urgent"
    gone.close()
    request = deferd.wait_for_request("/gone")
    assert (request.outcome, request.status) == ("client_gone", None)
    other.answer(b"served")
    assert urgent.read_response().body == b"served"
    assert peer.idle()


def test_client_that_leaves_before_the_barriers_answer(kept, peer, sender):
    sender.send_request("POST", "/", b"body")
    connection = peer.accept()
    connection.read_guarded_params()
    sender.close()
    assert kept.wait_for_request("/").outcome == "client_gone"
    connection.wait_closed()
    assert peer.idle()


# --- cut at every byte ----------------------------------------------------------------------------


def cut_at(connection, data, at):
    connection.send(data[:at])
    connection.wait_read()
    connection.close()


def test_post_with_a_body_cut_at_every_byte_of_its_answer(start_kept, connect, peer):
    deferd = start_kept(peer, max_workers=1)
    before = deferd.fds()
    answer = BARRIER_ANSWER + fcgi.record(fcgi.STDOUT, 1, HEAD + b"body") + fcgi.end_request()
    acknowledged = len(BARRIER_ANSWER)
    begun = acknowledged + fcgi.HEADER_SIZE
    for at in range(len(answer) + 1):
        client = connect(deferd)
        client.send_request("POST", f"/{at}", b"body")
        connection = peer.accept()
        connection.read_guarded_params()
        cut_at(connection, answer, at)
        if at < acknowledged:
            serve(peer, b"body")
        check_cut(deferd, client, at, acknowledged, begun, len(answer), MAYBE_RUN)
        assert peer.idle(0.005)
    deferd.wait_for_fds(before)


def test_get_cut_at_every_byte_of_its_answer(start_kept, connect, peer):
    deferd = start_kept(peer, max_workers=1)
    before = deferd.fds()
    answer = fcgi.record(fcgi.STDOUT, 1, HEAD + b"body") + fcgi.end_request()
    done = len(answer)
    answer += BARRIER_ANSWER
    for at in range(len(answer)):
        client = connect(deferd)
        client.send_request("GET", f"/{at}")
        connection = peer.accept()
        connection.read_kept_request()
        cut_at(connection, answer, at)
        if at <= fcgi.HEADER_SIZE:
            again = peer.accept()
            again.read_guarded_request()
            again.answer(b"served")
            again.close()
        check_cut(deferd, client, at, fcgi.HEADER_SIZE + 1, fcgi.HEADER_SIZE, done, BEGUN)
        assert peer.idle(0.005)
    deferd.wait_for_fds(before)


def check_cut(deferd, client, at, sent_again_below, begun, done, why):
    """Whatever was cut: sent again, or a 502, or a closed connection, or a whole response."""
    response = client.read_response()
    request = deferd.wait_for_request(f"/{at}")
    if at < sent_again_below:
        assert (response.body, response.complete) == (b"served", True)
        assert request.outcome == "answered"
    elif at < begun + len(HEAD):
        assert (response.status, response.complete) == (502, True)
        assert deferd.causes_of(request)[-1].endswith(why if at <= begun else BEGUN)
    elif at < done:
        assert not response.complete
        assert (HEAD + b"body").startswith(response.stdout)
        assert request.outcome == "upstream_failed"
    else:
        assert (response.body, response.complete) == (b"body", True)
        assert request.outcome == "answered"


# --- php-fpm --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"body"], ids=["no body", "body"])
def test_post_under_which_a_worker_dies_is_run_once(
    start_fpm, start_deferd, connect, script, workspace, gate, body
):
    fpm = start_fpm(workers=1)
    deferd = start_deferd(fpm, max_workers=1, log_level="debug")
    deferd.wait_for_line("connections can be kept")
    client = connect(deferd)
    uri = f"/slow.php?gate={gate.path}&marks={workspace.path('marks')}"
    client.send_request("POST", uri, body, script=script("slow.php"))
    wait_for_marks(workspace, ["waits"])
    fpm.kill_worker(fpm.workers()[0])
    assert client.read_response().status == 502
    deferd.wait_for_cause(MAYBE_RUN)
    fpm.wait_for_workers()
    gate.open()
    assert client_for(connect, deferd, script).body == b"hello\n"
    assert workspace.lines("marks") == ["waits"]


def test_get_under_which_a_worker_dies_is_run_again(
    start_fpm, start_deferd, connect, script, workspace, gate
):
    fpm = start_fpm(workers=1)
    deferd = start_deferd(fpm, max_workers=1)
    client = connect(deferd)
    uri = f"/slow.php?part&gate={gate.path}&marks={workspace.path('marks')}"
    client.send_request("GET", uri.replace("part&", ""), script=script("slow.php"))
    wait_for_marks(workspace, ["waits"])
    fpm.kill_worker(fpm.workers()[0])
    wait_for_marks(workspace, ["waits", "waits"])
    gate.open()
    response = client.read_response()
    assert (response.body, response.complete) == (b" and the rest", True)
    deferd.wait_for_cause(SAFE)
    assert workspace.lines("marks") == ["waits", "waits", "woke"]


@pytest.mark.parametrize("body", [b"", b"body"], ids=["no body", "body"])
def test_post_to_a_worker_that_is_to_end_is_run_by_another(
    start_fpm, start_deferd, connect, script, body
):
    """Its idle worker was told to end (a reload does so): it answers a barrier all the same."""
    fpm = start_fpm(workers=2, options={"process_control_timeout": "10s"})
    deferd = start_deferd(fpm, max_workers=1, log_level="debug",
                          arguments=["--upstream-idle-timeout", "1h"])
    deferd.wait_for_line("connections can be kept")
    pid = int(client_for(connect, deferd, script).headers["x-pid"])
    deferd.wait_for_request("/hello.php")
    fpm.tell_to_end(pid)
    response = connect(deferd).request("POST", "/post", body, script=script("hello.php"))
    assert (response.status, response.body) == (200, b"hello\n")
    assert int(response.headers["x-pid"]) != pid
    deferd.wait_for_cause(UNRUN)


def client_for(connect, deferd, script):
    return connect(deferd).request(script=script("hello.php"), uri="/hello.php")


def wait_for_marks(workspace, expected):
    wait_until(lambda: workspace.lines("marks") == expected, what=f"marks {expected}")
