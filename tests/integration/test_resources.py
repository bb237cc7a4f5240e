"""What deferd uses when little happens, and what it does when there is no more."""

import time

import pytest
from harness import Background, Deferd, FcgiClient, proc, wait_until
from harness.daemon import sanitized


def wakeups(deferd):
    with open(f"/proc/{deferd.pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))


def assert_sleeps(deferd, seconds=0.3):
    """Soon it does not wake up even once in that time; a process that polls never gets there."""
    last = [wakeups(deferd), time.monotonic()]

    def slept():
        now = wakeups(deferd)
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - last[1] > seconds

    wait_until(slept, timeout=5.0, what="deferd sleeps", interval=0.01)


def test_idle_process_sleeps(deferd):
    assert_sleeps(deferd)


def test_it_sleeps_while_it_waits_for_others(deferd, peer, connect):
    running, deferred, arriving = connect(deferd), connect(deferd), connect(deferd)
    running.send_request()
    peer.accept_request()
    deferred.send_request(keep=True)
    peer.accept_request().answer_and_defer()
    assert deferred.read_response().complete
    arriving.begin()
    arriving.wait_read()
    assert_sleeps(deferd)


def test_it_sleeps_while_requests_queue(start_deferd, peer, connect):
    deferd = start_deferd(peer, max_workers=1)
    for number in range(10):
        client = connect(deferd)
        client.send_request(uri=f"/{number}")
        client.wait_read()
    peer.accept_request()
    assert_sleeps(deferd)


@pytest.mark.skipif(sanitized(), reason="memory says nothing in a sanitizer build")
def test_open_connections_cost_little(deferd, connect):
    before = deferd.anonymous_kb()
    for _ in range(200):
        client = connect(deferd)
        client.begin()
        client.wait_read()
    assert deferd.anonymous_kb() - before <= 200 * 8


@pytest.mark.skipif(sanitized(), reason="memory says nothing in a sanitizer build")
def test_deferred_phases_cost_little(start_deferd, peer, client, connect):
    deferd = start_deferd(peer, max_workers=400)
    client = connect(deferd)
    before = deferd.anonymous_kb()
    for number in range(400):
        client.send_request(uri=f"/{number}", params={"HTTP_COOKIE": "c" * 4000}, keep=True)
        peer.accept_request().answer_and_defer(tasks=["one task", "another"])
        assert client.read_response().complete
    assert deferd.anonymous_kb() - before <= 400 * 8


@pytest.fixture(name="poor")
def fixture_poor(peer, start_deferd, monkeypatch):
    """A deferd that can have 40 descriptors."""
    original = Deferd.argv
    monkeypatch.setattr(
        Deferd, "argv",
        lambda deferd: ["sh", "-c", 'ulimit -n 40; exec "$@"', "sh", *original(deferd)],
    )
    return start_deferd(peer, max_workers=100)


def test_more_connections_than_descriptors_do_no_harm(poor, peer):
    before = poor.fds()
    clients = [FcgiClient(poor.address) for _ in range(100)]
    assert len(proc.fds(poor.pid)) <= 40
    cpu = poor.cpu_seconds()
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 0.3)
    assert poor.cpu_seconds() - cpu <= 0.2, "it spins"
    for client in clients:
        client.close()
    poor.wait_for_fds(before)
    with FcgiClient(poor.address) as client:
        client.send_request(uri="/after")
        peer.accept_request().answer(b"served")
        assert client.read_response().body == b"served"


def test_requests_without_a_descriptor_for_the_upstream_get_an_answer(poor, peer):
    """Nobody hangs: each is served, or told 502 or 503, or closed."""
    before = poor.fds()
    clients = [FcgiClient(poor.address) for _ in range(60)]
    for number, client in enumerate(clients):
        try:
            client.send_request(uri=f"/{number}")
        except OSError:
            pass  # not accepted for want of a descriptor

    def serve(connection):
        connection.read_request()
        connection.answer(b"served")

    def serve_all():
        while True:
            try:
                peer.serve(serve, 1, 0.5)
            except AssertionError:
                return

    serving = Background(serve_all)
    responses = [client.read_response() for client in clients]
    serving.result()
    for response in responses:
        assert not response.complete or response.status in (200, 502, 503)
    for client in clients:
        client.close()
    poor.wait_for_fds(before)
