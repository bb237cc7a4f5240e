"""Several php-fpm: which one a request goes to, and what happens when one cannot be reached."""

import os
import re
import resource
from datetime import datetime
from fractions import Fraction

import pytest
from harness import FcgiClient, wait_until


class Peers:
    """Scripted peers, of which one gets the next request."""

    def __init__(self, *peers):
        self.peers = peers

    def accept(self):
        """The next request, and the number of the peer that has it."""
        found = []

        def look():
            found[:] = [n for n, peer in enumerate(self.peers) if peer and not peer.idle(0.0)]
            return found

        wait_until(look, what="a connection to any of the peers")
        return found[0], self.peers[found[0]].accept_request()

    def all_idle(self):
        return all(peer.idle(0.1 if n == 0 else 0.0) for n, peer in enumerate(self.peers))


@pytest.fixture(name="start_many")
def fixture_start_many(start_deferd):
    """start_many((address, max_workers), …): a deferd with these upstreams."""

    def start(*upstreams, arguments=(), **options):
        (first, workers), *others = upstreams
        rows = [part for address, count in others
                for part in ("--upstream", f"{address},max_workers={count}")]
        return start_deferd(first, max_workers=workers, arguments=[*rows, *arguments], **options)

    return start


def send(deferd, connect, uri="/", *args, **options):
    client = connect(deferd)
    client.send_request(*(args or ("GET",)), uri=uri, **options)
    return client


def spread(deferd, connect, peers, count):
    """Runs as many requests: which peers have them, and their connections."""
    chosen, connections = [], []
    for number in range(count):
        send(deferd, connect, f"/{number}")
        peer, connection = peers.accept()
        chosen.append(peer)
        connections.append(connection)
    return chosen, connections


def exchange(deferd, peers):
    """A whole request: the number of the peer that had it."""
    with FcgiClient(deferd.address) as client:
        client.send_request()
        number, connection = peers.accept()
        connection.answer()
        assert client.read_response().status == 200
        connection.close()
    return number


SET_ASIDE = re.compile(
    r"\[(.*?)\] ERROR: upstream (?:unix:)?(.*): cannot connect: .*; set aside for (\d+) ms"
)


def set_aside(deferd):
    """For how long each time, in milliseconds."""
    return [int(match[3]) for match in map(SET_ASIDE.match, list(deferd.lines)) if match]


def set_aside_at(deferd, address):
    """And when one of them was, in milliseconds."""
    return [datetime.strptime(match[1], "%d-%b-%Y %H:%M:%S.%f").timestamp() * 1000
            for match in map(SET_ASIDE.match, list(deferd.lines))
            if match and match[2] == str(address)]


# --- which one ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers, expected", [
    ((4, 4), [4, 4]), ((6, 2), [6, 2]), ((2, 6), [2, 6]), ((1, 2, 5), [1, 2, 5]),
])
def test_all_workers_are_used_and_no_more(start_many, start_peer, connect, workers, expected):
    peers = Peers(*(start_peer() for _ in workers))
    deferd = start_many(*((peer.address, count) for peer, count in zip(peers.peers, workers)))
    chosen, connections = spread(deferd, connect, peers, 8)
    assert [chosen.count(number) for number in range(len(workers))] == expected
    send(deferd, connect, "/waits")
    assert peers.all_idle()
    connections[5].answer()
    number, connection = peers.accept()
    assert (number, connection.request.uri) == (chosen[5], "/waits")


@pytest.mark.parametrize("workers", [(9, 3), (3, 9), (6, 6), (2, 4, 6)])
def test_least_busy_in_proportion_is_taken(start_many, start_peer, connect, workers):
    peers = Peers(*(start_peer() for _ in workers))
    deferd = start_many(*((peer.address, count) for peer, count in zip(peers.peers, workers)))
    chosen, _ = spread(deferd, connect, peers, 12)
    for count in range(12):
        loads = [Fraction(chosen[:count].count(n), workers[n]) for n in range(len(workers))]
        assert loads[chosen[count]] == min(loads), (count, chosen)


def test_upstream_whose_request_has_ended_is_least_busy(start_many, start_peer, connect):
    peers = Peers(*(start_peer() for _ in range(3)))
    deferd = start_many(*((peer.address, 3) for peer in peers.peers))
    chosen, connections = spread(deferd, connect, peers, 6)
    for ended in (4, 2, 0):
        connections[ended].answer()
        deferd.wait_for_request(f"/{ended}")
        send(deferd, connect, "/next")
        assert peers.accept()[0] == chosen[ended]


def test_deferred_phase_keeps_its_upstream_busy(start_many, start_peer, connect):
    peers = Peers(start_peer(), start_peer())
    deferd = start_many(*((peer.address, 1) for peer in peers.peers))
    client = send(deferd, connect)
    first, connection = peers.accept()
    connection.answer_and_defer()
    assert client.read_response().complete
    send(deferd, connect)
    assert peers.accept()[0] != first
    send(deferd, connect, "/waits")
    assert peers.all_idle()
    connection.finish_tasks()
    assert peers.accept()[0] == first


def test_each_upstream_is_asked_whether_it_can_be_kept(start_many, start_peer, connect):
    new, old = start_peer(), start_peer()
    deferd = start_many((new.address, 1), (old.address, 1), keepalive="yes")
    question = old.accept_question()
    question.answer_barrier()
    question.wait_read()
    question.close()
    deferd.wait_for_line(f"upstream unix:{old.address}: closes after GET_VALUES")
    connection = new.answer_question(stay=True)
    for _ in range(3):
        kept, plain = connect(deferd), connect(deferd)
        kept.send_request(uri="/new")
        assert connection.next_request().read_kept_request().keep
        plain.send_request(uri="/old")
        other = old.accept_request()
        assert not other.request.keep
        other.answer()
        assert plain.read_response().complete
        connection.answer_and_stay()
        assert kept.read_response().complete
    assert new.idle(0.0)


# --- one that cannot be connected -----------------------------------------------------------------


@pytest.fixture(name="gone", params=["missing", "refused", "tcp"])
def fixture_gone(request, start_peer, workspace):
    """An address where nobody listens."""
    peer = start_peer("127.0.0.1:0" if request.param == "tcp" else workspace.path("gone.sock"))
    peer.end()
    if request.param == "missing":
        os.unlink(peer.address.path)
    return peer.address


def come_up(start_peer, address):
    if address.path and os.path.exists(address.path):
        os.unlink(address.path)
    return start_peer(address)


@pytest.mark.parametrize("method, body", [("GET", b""), ("POST", b""), ("POST", b"body" * 20000)])
def test_request_goes_to_the_other_one(start_many, connect, peer, gone, method, body):
    deferd = start_many((gone, 4), (peer.address, 4))
    client = send(deferd, connect, "/", method, body=body)
    connection = peer.accept_request()
    assert connection.request.stdin == body
    connection.answer(b"served")
    assert client.read_response().body == b"served"
    assert deferd.wait_for_request("/").outcome == "answered"
    assert set_aside(deferd) == [100]
    assert deferd.has_line(f"ERROR: upstream .*{re.escape(str(gone))}: cannot connect")


def test_back_off_grows_and_ends_when_it_is_back(start_many, start_peer, peer, gone):
    deferd = start_many((gone, 4), (peer.address, 4))
    alone = Peers(peer)
    for expected in (100, 200, 400):
        wait_until(lambda: exchange(deferd, alone) == 0 and set_aside(deferd)[-1:] == [expected])
    first, second, third = set_aside_at(deferd, gone)
    assert second - first >= 99
    assert third - second >= 199
    back = Peers(come_up(start_peer, gone), peer)
    wait_until(lambda: exchange(deferd, back) == 0)
    deferd.wait_for_line(f"NOTICE: upstream .*{re.escape(str(gone))}: can be reached again")
    assert set_aside(deferd) == [100, 200, 400]
    back.peers[0].end()
    if gone.path:
        os.unlink(gone.path)
    assert exchange(deferd, alone) == 0
    deferd.wait_for(lambda: set_aside(deferd) == [100, 200, 400, 100])


def test_request_that_waits_is_served_when_one_comes_back(
    start_many, start_peer, connect, peer, gone
):
    """Nothing else happens meanwhile: no request comes, none ends."""
    deferd = start_many((gone, 1), (peer.address, 1))
    send(deferd, connect, "/running")
    peer.accept_request()
    back = come_up(start_peer, gone)
    waiting = send(deferd, connect, "/waiting")
    connection = back.accept_request(timeout=5.0)
    connection.answer(b"waited")
    assert waiting.read_response().body == b"waited"
    assert set_aside(deferd) == [100]


def test_request_that_failed_there_goes_there_when_it_is_back(
    start_many, start_peer, connect, peer, gone
):
    """Also when it is the first in line: nobody behind it may wait for its sake."""
    deferd = start_many((peer.address, 1), (gone, 1))
    send(deferd, connect, "/running")
    peer.accept_request()
    waiting = send(deferd, connect, "/waiting")
    deferd.wait_for(lambda: set_aside(deferd) == [100])
    back = come_up(start_peer, gone)
    connection = back.accept_request(timeout=5.0)
    connection.answer(b"waited")
    assert waiting.read_response().body == b"waited"


def test_all_down_is_502(start_many, start_peer, connect, gone):
    other = start_peer()
    other.end()
    deferd = start_many((gone, 4), (other.address, 4))
    for number in range(20):
        response = connect(deferd).request("POST", f"/{number}", b"body")
        assert (response.status, response.complete) == (502, True)
        request = deferd.wait_for_request(f"/{number}")
        assert (request.status, request.outcome) == (502, "upstream_failed")
        assert deferd.causes_of(request) == ["no upstream can be connected; answered 502"]
    assert set_aside(deferd)[:2] == [100, 100]
    for address in (gone, other.address):
        times = set_aside_at(deferd, address)
        assert times, "no line names it"
        assert all(later - earlier >= 99 for earlier, later in zip(times, times[1:]))


def test_those_that_are_down_are_tried_when_there_is_no_other(start_peer, start_many, connect,
                                                              gone):
    """One may be back before its time, and a 502 is worse than to try."""
    other = start_peer()
    other.end()
    deferd = start_many((gone, 4), (other.address, 4))
    assert connect(deferd).request().status == 502
    back = come_up(start_peer, gone)
    client = send(deferd, connect)
    back.accept_request().answer(b"back")
    assert client.read_response().body == b"back"


def test_request_sent_again_goes_to_the_other_one(start_many, start_peer, connect):
    first, second = start_peer(), start_peer()
    deferd = start_many((first.address, 4), (second.address, 4))
    client = send(deferd, connect)
    connection = first.accept_request()
    first.close()
    connection.close()
    second.accept_request().answer(b"served")
    assert client.read_response().body == b"served"
    assert deferd.wait_for_request("/").outcome == "answered"
    assert set_aside(deferd) == [100]


# --- a full backlog -------------------------------------------------------------------------------


def test_full_backlog_of_one_sends_requests_to_the_other(start_many, start_peer, connect, peer):
    full = start_peer(backlog=0)
    connect(full)
    deferd = start_many((full.address, 4), (peer.address, 4))
    for number in range(4):
        client = send(deferd, connect, f"/{number}")
        peer.accept_request().answer(b"served")
        assert client.read_response().body == b"served"
        assert deferd.wait_for_request(f"/{number}").queue_ms < 1000
    assert set_aside(deferd) == []
    deferd.wait_for_line(f"WARNING: upstream unix:{full.address}: its backlog is full")


def test_request_waits_when_the_backlogs_of_all_are_full(start_many, start_peer, connect):
    peers = [start_peer(backlog=0), start_peer(backlog=0)]
    fillers = [connect(peer) for peer in peers]
    deferd = start_many(*((peer.address, 4) for peer in peers))
    client = send(deferd, connect)
    assert client.silent(0.3)
    peers[1].accept().close()
    fillers[1].close()
    peers[1].accept_request().answer(b"at last")
    assert client.read_response().body == b"at last"


def test_full_backlog_and_all_workers_of_the_other(start_many, start_peer, connect, peer):
    full = start_peer(backlog=0)
    filler = connect(full)
    deferd = start_many((full.address, 1), (peer.address, 1))
    send(deferd, connect, "/running")
    peer.accept_request()
    client = send(deferd, connect, "/waiting")
    assert client.silent(0.2)
    full.accept().close()
    filler.close()
    connection = full.accept_request()
    assert connection.request.uri == "/waiting"
    connection.answer()
    assert client.read_response().complete


# --- a shortage of our own ------------------------------------------------------------------------


@pytest.mark.parametrize("listen", [None, "127.0.0.1:0"], ids=["unix", "tcp"])
def test_request_waits_while_no_descriptor_is_left(start_many, start_peer, connect, listen):
    """It is nobody's fault upstream: nothing is set aside, nothing is refused."""
    peers = Peers(start_peer(listen), start_peer(listen))
    deferd = start_many(*((peer.address, 4) for peer in peers.peers))
    client = connect(deferd)
    client.begin()
    client.wait_read()
    soft, hard = resource.prlimit(deferd.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(deferd.pid, resource.RLIMIT_NOFILE, (1, hard))
    client.params({"REQUEST_METHOD": "POST", "REQUEST_URI": "/", "CONTENT_LENGTH": "4"})
    client.stdin(b"body")
    client.end_stdin()
    deferd.wait_for_line("ERROR: upstream .*: no connection can be made here: too many open files")
    assert client.silent(0.2)
    resource.prlimit(deferd.pid, resource.RLIMIT_NOFILE, (soft, hard))
    connection = peers.accept()[1]
    assert connection.request.stdin == b"body"
    connection.answer(b"served")
    assert client.read_response().body == b"served"
    assert set_aside(deferd) == []
    assert deferd.wait_for_request("/").outcome == "answered"


# --- php-fpm --------------------------------------------------------------------------------------


def test_php_fpm_that_ends_and_comes_back(start_fpm, start_many, script, workspace):
    """One of two goes down under requests that come one after the other: none is lost."""
    first, second = start_fpm(workers=2), start_fpm(workers=2)
    deferd = start_many((first.address, 2), (second.address, 2), keepalive="yes")
    hello = {"script": script("hello.php"), "uri": "/hello.php"}

    def served_by(count=20):
        with FcgiClient(deferd.address) as client:
            responses = [client.request(**hello, keep=True) for _ in range(count)]
        assert {response.body for response in responses} == {b"hello\n"}
        return {int(response.headers["x-pid"]) for response in responses}

    assert served_by() <= set(first.workers() + second.workers())
    first.end()
    assert served_by() <= set(second.workers())
    assert set_aside(deferd)[:1] == [100]
    first.start()
    wait_until(lambda: served_by() & set(first.workers()), what="requests at the first one")
    deferd.wait_for_line("can be reached again")
