"""Who waits, how many may, for how long; and what becomes of those who leave."""

import os
import signal
import time

import pytest
from harness import fcgi, wait_until
from harness.nginx import close_quietly


@pytest.fixture(name="start_one_slot")
def fixture_start_one_slot(start_deferd, peer):
    def start(*arguments, **options):
        return start_deferd(peer, max_workers=1, arguments=arguments, **options)

    return start


def queue_up(deferd, connect, uri, *args, **options):
    """A client whose request deferd has read."""
    client = connect(deferd)
    client.send_request(*(args or ("GET",)), uri=uri, **options)
    client.wait_read()
    return client


def occupy(deferd, connect, peer, uri="/running"):
    """A request that runs until the test ends it."""
    queue_up(deferd, connect, uri)
    return peer.accept_request()


def assert_503(deferd, response, uri, outcome, retry_after="1"):
    assert (response.status, response.complete) == (503, True)
    assert response.headers["retry-after"] == retry_after
    request = deferd.wait_for_request(uri)
    assert (request.status, request.outcome) == (503, outcome)
    assert len(deferd.causes_of(request)) == 1
    return request


def serve_next(peer, connection, uri):
    """Ends the running request; the next one in the queue must be this one."""
    connection.answer()
    connection = peer.accept_request()
    assert connection.request.uri == uri
    return connection


# --- queue.max ------------------------------------------------------------------------------------


def test_full_queue_is_503_at_once_and_the_others_go_on(start_one_slot, connect, peer):
    deferd = start_one_slot("--queue-max", "2")
    running = occupy(deferd, connect, peer)
    waiting = [queue_up(deferd, connect, f"/{number}") for number in range(2)]
    refused = connect(deferd)
    request = assert_503(deferd, refused.request(uri="/refused", keep=True), "/refused",
                         "queue_full")
    assert "queue is full" in deferd.causes_of(request)[0]
    assert request.queue_ms < 1000
    running = serve_next(peer, running, "/0")
    running = serve_next(peer, running, "/1")
    running.answer(b"last")
    assert all(client.read_response().complete for client in waiting)
    refused.send_request(uri="/again")
    peer.accept_request().answer(b"now")
    assert refused.read_response().body == b"now"


def test_queue_of_none(start_one_slot, connect, peer):
    """A request runs at once or not at all."""
    deferd = start_one_slot("--queue-max", "0")
    for _ in range(3):
        client = connect(deferd)
        client.send_request(uri="/served")
        running = peer.accept_request()
        assert_503(deferd, connect(deferd).request(uri="/refused"), "/refused", "queue_full")
        running.answer()
        assert client.read_response().status == 200


def test_refused_request_with_a_body_leaves_its_connection_usable(start_one_slot, connect, peer):
    deferd = start_one_slot("--queue-max", "0")
    running = occupy(deferd, connect, peer)
    client = connect(deferd)
    client.start("POST", "/refused", body_length=100_000, keep=True)
    assert_503(deferd, client.read_response(), "/refused", "queue_full")
    client.stdin(b"x" * 100_000)
    client.end_stdin()
    running.answer()
    deferd.wait_for_request("/running")
    client.send_request(uri="/next")
    peer.accept_request().answer(b"next")
    assert client.read_response().body == b"next"


@pytest.mark.parametrize("arguments", [("--queue-max", "0"), ("--queue-timeout", "100ms")],
                         ids=["full", "timeout"])
def test_503_to_head_has_no_body(start_one_slot, connect, peer, arguments):
    deferd = start_one_slot(*arguments)
    occupy(deferd, connect, peer)
    for method, empty in (("HEAD", True), ("GET", False)):
        response = connect(deferd).request(method)
        assert (response.status, response.body == b"") == (503, empty)


def leave(deferd, client, connection, peer):
    client.close()
    deferd.wait_for_request("/waiting", outcome="client_gone")
    return connection


def abort(deferd, client, connection, peer):
    client.record(fcgi.ABORT_REQUEST)
    deferd.wait_for_request("/waiting", outcome="client_gone")
    return connection


def is_served(deferd, client, connection, peer):
    return serve_next(peer, connection, "/waiting")


@pytest.mark.parametrize("end", [leave, abort, is_served], ids=lambda end: end.__name__)
def test_place_in_the_queue_is_free_again(start_one_slot, connect, peer, end):
    deferd = start_one_slot("--queue-max", "1")
    running = occupy(deferd, connect, peer)
    for number in range(5):
        client = queue_up(deferd, connect, "/waiting")
        running = end(deferd, client, running, peer)
        client = queue_up(deferd, connect, "/after")
        refused = connect(deferd).request(uri=f"/refused/{number}")
        assert_503(deferd, refused, f"/refused/{number}", "queue_full")
        running = serve_next(peer, running, "/after")


def test_place_in_the_queue_is_free_after_a_timeout(start_one_slot, connect, peer):
    deferd = start_one_slot("--queue-max", "1", "--queue-timeout", "100ms")
    occupy(deferd, connect, peer)
    for number in range(3):
        response = connect(deferd).request(uri=f"/{number}")
        assert_503(deferd, response, f"/{number}", "queue_timeout")


def test_full_backlog_counts_as_waiting(start_deferd, start_peer, connect):
    peer = start_peer(backlog=0)
    deferd = start_deferd(peer, max_workers=4, arguments=["--queue-max", "2"])
    filler = connect(peer)
    waiting = [queue_up(deferd, connect, f"/{number}") for number in range(2)]
    assert_503(deferd, connect(deferd).request(uri="/refused"), "/refused", "queue_full")
    peer.accept().close()
    filler.close()
    for number in range(2):
        connection = peer.accept_request()
        assert connection.request.uri == f"/{number}"
        connection.answer()
        assert waiting[number].read_response().complete


def test_queue_that_got_longer_than_its_maximum_loses_nobody(start_deferd, start_peer, connect):
    """A request that comes back makes the queue longer than its maximum; a new one is refused.

    /back goes to an upstream that is connecting, /busy takes the other one, /waits fills the
    queue. Then the first upstream refuses the connection, and /back waits too.
    """
    lost, busy = start_peer("127.0.0.1:0", backlog=0), start_peer()
    connect(lost)
    deferd = start_deferd(
        lost, max_workers=1,
        arguments=["--upstream", str(busy.address), "--queue-max", "1"],
    )
    back = queue_up(deferd, connect, "/back")
    running = occupy(deferd, connect, busy, "/busy")
    waits = queue_up(deferd, connect, "/waits")
    lost.end()
    deferd.wait_for_line("set aside for 100 ms", timeout=10.0)
    new = connect(deferd).request(uri="/new")
    assert_503(deferd, new, "/new", "queue_full", "1")
    serve_next(busy, running, "/back").answer(b"back")
    assert back.read_response().body == b"back"
    connection = busy.accept_request()
    assert connection.request.uri == "/waits"
    connection.answer(b"waits")
    assert waits.read_response().body == b"waits"


# --- queue.timeout --------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout, retry_after", [("200ms", "1"), ("1100ms", "2")])
def test_request_that_waits_too_long_is_503(start_one_slot, connect, peer, timeout, retry_after):
    deferd = start_one_slot("--queue-timeout", timeout)
    running = occupy(deferd, connect, peer)
    client = connect(deferd)
    response = client.request(uri="/late", keep=True)
    request = assert_503(deferd, response, "/late", "queue_timeout", retry_after)
    milliseconds = float(timeout.removesuffix("ms"))
    assert milliseconds <= request.queue_ms < milliseconds + 1000
    assert f"{timeout.removesuffix('ms')} ms" in deferd.causes_of(request)[0]
    running.answer()
    deferd.wait_for_request("/running")
    assert peer.idle()
    client.send_request(uri="/next")
    connection = peer.accept_request()
    assert connection.request.uri == "/next"
    connection.answer()
    assert client.read_response().complete


def test_request_with_a_body_that_waits_too_long(start_one_slot, connect, peer):
    deferd = start_one_slot("--queue-timeout", "200ms")
    running = occupy(deferd, connect, peer)
    client = connect(deferd)
    client.start("POST", "/late", body_length=1 << 20, keep=True)
    stream = fcgi.stream(fcgi.STDIN, 1, b"x" * (1 << 20), 30000)
    taken = client.send_until_blocked(stream, 0.05)
    assert taken < len(stream), "the body was read"
    assert_503(deferd, client.read_response(), "/late", "queue_timeout")
    client.send(stream[taken:])
    running.answer()
    deferd.wait_for_request("/running")
    client.send_request(uri="/next")
    connection = peer.accept_request()
    assert (connection.request.uri, connection.request.stdin) == ("/next", b"")
    connection.answer()
    assert client.read_response().complete


def test_each_request_has_its_own_time(start_one_slot, connect, peer):
    deferd = start_one_slot("--queue-timeout", "400ms")
    occupy(deferd, connect, peer)
    first = queue_up(deferd, connect, "/first")
    assert first.silent(0.2)
    second = queue_up(deferd, connect, "/second")
    assert_503(deferd, first.read_response(), "/first", "queue_timeout")
    assert second.silent(0.05)
    request = assert_503(deferd, second.read_response(), "/second", "queue_timeout")
    assert 400 <= request.queue_ms < 1400


def test_time_in_the_queue_is_not_the_time_of_running(start_one_slot, connect, peer):
    deferd = start_one_slot("--queue-timeout", "200ms")
    running = occupy(deferd, connect, peer)
    client = queue_up(deferd, connect, "/patient")
    running = serve_next(peer, running, "/patient")
    assert client.silent(0.5)
    running.answer(b"served")
    assert client.read_response().body == b"served"


def test_time_is_up_while_the_backlog_is_full(start_deferd, start_peer, connect):
    peer = start_peer(backlog=0)
    deferd = start_deferd(peer, max_workers=4, arguments=["--queue-timeout", "300ms"])
    connect(peer)
    response = connect(deferd).request(uri="/late")
    assert_503(deferd, response, "/late", "queue_timeout")


def late_at_a_full_backlog(deferd, connect, peer):
    """Two requests behind each other; the first one's time is up just as the backlog has room.

    Returns the response to the first one. deferd is stopped meanwhile, so that it finds both at
    once; what it finds first is that the time is up, unless it was about to try again just then.
    """
    filler = connect(peer)
    client = connect(deferd)
    for uri in ("/late", "/next"):
        client.send_request("POST", uri, b"body", keep=True)
    time.sleep(0.4)  # of 420 ms; since some 380 ms it tries again every 64 ms
    os.kill(deferd.pid, signal.SIGSTOP)
    time.sleep(0.03)
    peer.accept().close()
    filler.close()
    os.kill(deferd.pid, signal.SIGCONT)
    connection = peer.accept_request()
    if connection.request.uri == "/late":
        connection.answer()
        connection = peer.accept_request()
    assert (connection.request.uri, connection.request.stdin) == ("/next", b"body")
    connection.answer(b"next")
    response = client.read_response()
    assert client.read_response().body == b"next"
    return response


def test_time_is_up_when_a_worker_and_the_next_request_are_there(start_deferd, start_peer, connect):
    """Its worker goes to the request behind it, not to the one that was just answered."""
    peer = start_peer(backlog=0)
    deferd = start_deferd(peer, max_workers=4, arguments=["--queue-timeout", "420ms"])
    for _ in range(10):
        if late_at_a_full_backlog(deferd, connect, peer).status == 503:
            return
    pytest.fail("its time was never up first")


def test_time_goes_on_for_a_request_that_came_back(start_deferd, connect, peer):
    """What it ran on was lost; its age counts from its first day."""
    deferd = start_deferd(peer, keepalive="yes", max_workers=1,
                          arguments=["--queue-timeout", "600ms", "--class", "first,priority=1"])
    peer.answer_question()
    client = queue_up(deferd, connect, "/back", "POST", body=b"body")
    connection = peer.accept()
    connection.read_guarded_params()
    queue_up(deferd, connect, "/urgent", params={"DEFERD_CLASS": "first"})
    assert client.silent(0.3)
    connection.close()
    assert peer.accept_request().request.uri == "/urgent"
    response = client.read_response()
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    request = deferd.wait_for_request("/back")
    assert request.outcome == "queue_timeout"
    assert 600 <= request.response_ms < 900


def test_time_is_up_during_a_drain(start_one_slot, connect, peer):
    deferd = start_one_slot("--queue-timeout", "300ms")
    running = occupy(deferd, connect, peer)
    client = queue_up(deferd, connect, "/late")
    deferd.signal(15)
    assert_503(deferd, client.read_response(), "/late", "queue_timeout")
    running.answer()
    assert deferd.wait() == 0


# --- the order ------------------------------------------------------------------------------------


def accept_posted(peer, uri):
    connection = peer.accept()
    assert connection.read_guarded_params().uri == uri
    return connection


def serve_posted(connection):
    connection.answer_barrier()
    assert connection.read_stdin() == b"body"
    connection.answer()


def test_request_that_came_back_goes_first(start_deferd, connect, peer):
    deferd = start_deferd(peer, keepalive="yes", max_workers=1)
    peer.answer_question()
    for number in range(4):
        queue_up(deferd, connect, f"/{number}", "POST", body=b"body")
    for number in range(4):
        accept_posted(peer, f"/{number}").close()
        serve_posted(accept_posted(peer, f"/{number}"))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["older first", "younger first"])
def test_requests_that_came_back_keep_the_order_of_their_age(start_deferd, connect, peer, order):
    """Lost one after the other, while more important ones take the workers."""
    deferd = start_deferd(peer, keepalive="yes", max_workers=2,
                          arguments=["--class", "first,priority=1"])
    peer.answer_question()
    lost = []
    for uri in ("/0", "/1"):
        queue_up(deferd, connect, uri, "POST", body=b"body")
        lost.append(accept_posted(peer, uri))
    queue_up(deferd, connect, "/2", "POST", body=b"body")
    for uri in ("/urgent/0", "/urgent/1"):
        queue_up(deferd, connect, uri, params={"DEFERD_CLASS": "first"})
    urgent = []
    for number in order:
        lost[number].close()
        urgent.append(peer.accept_request())
        assert urgent[-1].request.uri == f"/urgent/{len(urgent) - 1}"
    for number in range(2):
        urgent[number].answer()
        urgent[number].close()
        connection = accept_posted(peer, f"/{number}")
    serve_posted(connection)
    accept_posted(peer, "/2")


# --- php-fpm --------------------------------------------------------------------------------------


def test_request_given_up_in_the_queue_never_reaches_php_fpm(
    start_fpm, start_deferd, connect, script, gate, workspace
):
    deferd = start_deferd(start_fpm(workers=1), max_workers=1)
    marks = workspace.path("marks")
    running = connect(deferd)
    running.send_request(uri=f"/slow.php?gate={gate.path}&marks={marks}",
                         script=script("slow.php"))
    wait_until(lambda: workspace.lines("marks") == ["waits"], what="the running request")
    clients = {
        name: queue_up(deferd, connect, f"/load.php?marks={marks}.{name}", method, body=body,
                       script=script("load.php"))
        for name, method, body in (("gone", "GET", b""), ("gone.body", "POST", b"body"),
                                   ("stays", "GET", b""), ("stays.body", "POST", b"body"))
    }
    clients["gone"].close()
    clients["gone.body"].close()
    deferd.wait_for_requests(2)
    gate.open()
    assert running.read_response().complete
    for name in ("stays", "stays.body"):
        assert clients[name].read_response().body == b"ok\n"
    deferd.stop()
    assert workspace.lines("marks.gone") == workspace.lines("marks.gone.body") == []
    assert len(workspace.lines("marks.stays")) == len(workspace.lines("marks.stays.body")) == 2


def test_visitor_who_leaves_while_queued_is_never_run(start_fpm, start_site, gate, workspace):
    site = start_site(start_fpm(workers=1))
    marks = workspace.path("marks")
    running = site.nginx.connect()
    running.request("GET", f"/slow.php?gate={gate.path}&marks={marks}")
    wait_until(lambda: workspace.lines("marks") == ["waits"], what="the running request")
    visitor = site.nginx.connect()
    sockets = site.deferd.sockets()
    visitor.request("GET", f"/load.php?marks={marks}.gone")
    wait_until(lambda: site.deferd.sockets() > sockets, what="its connection to deferd")
    close_quietly(visitor.sock)
    site.deferd.wait_for_request(f"/load.php?marks={marks}.gone", outcome="client_gone")
    gate.open()
    assert running.getresponse().status == 200
    assert site.nginx.get(f"/load.php?marks={marks}.stays").text == "ok\n"
    site.deferd.stop()
    assert workspace.lines("marks.gone") == []
    assert len(workspace.lines("marks.stays")) == 2


def test_visitor_gets_503_when_the_queue_is_full(start_fpm, start_site, gate, workspace):
    site = start_site(start_fpm(workers=1), arguments=["--queue-max", "0"])
    marks = workspace.path("marks")
    running = site.nginx.connect()
    running.request("GET", f"/slow.php?gate={gate.path}&marks={marks}")
    wait_until(lambda: workspace.lines("marks") == ["waits"], what="the running request")
    response = site.nginx.get("/hello.php")
    assert (response.status, response.header("retry-after")) == (503, "1")
    gate.open()
    assert running.getresponse().status == 200
