"""SIGTERM: what runs is finished, then the process ends; a second one ends it at once."""

import signal
import time

import pytest
from harness import Background, DeadlinePassed, wait_until


def accepts(deferd):
    try:
        deferd.address.connect().close()
        return True
    except (ConnectionRefusedError, FileNotFoundError):
        return False


def begin_drain(deferd):
    deferd.signal(signal.SIGTERM)
    wait_until(lambda: not accepts(deferd), what="deferd accepts no more")


@pytest.fixture(name="one_slot")
def fixture_one_slot(start_deferd, peer):
    return start_deferd(peer, max_workers=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_idle_process_ends_at_once(deferd, number):
    deferd.signal(number)
    assert deferd.wait(timeout=2.0) == 0


def test_idle_kept_connection_does_not_hold_it(deferd, peer, client):
    client.send_request(keep=True)
    peer.accept_request().answer()
    assert client.read_response().complete
    assert deferd.stop(timeout=2.0) == 0
    assert client.read_record() is None


def test_connection_on_which_nothing_came_does_not_hold_it(deferd, client):
    wait_until(lambda: deferd.sockets() >= 2)
    assert deferd.stop(timeout=2.0) == 0
    assert client.read_record() is None


def test_running_request_is_finished(deferd, peer, client):
    client.send_request(keep=True)
    connection = peer.accept_request()
    begin_drain(deferd)
    connection.stdout(b"Content-Type: text/plain\r\n\r\nfirst ")
    assert client.read_stdout(1)
    assert deferd.running
    connection.stdout(b"second")
    connection.end()
    response = client.read_response()
    assert response.complete
    assert response.stdout.endswith(b"second")
    assert deferd.wait() == 0
    assert client.read_record() is None


def test_upload_that_runs_is_finished(deferd, peer, client):
    client.start("POST", body_length=6)
    client.stdin(b"abc")
    connection = peer.accept()
    connection.read_params()
    begin_drain(deferd)
    client.stdin(b"def")
    client.end_stdin()
    assert connection.read_stdin() == b"abcdef"
    connection.answer()
    assert client.read_response().complete
    assert deferd.wait() == 0


def test_deferred_phase_is_finished(deferd, peer, client):
    client.send_request(uri="/deferred")
    connection = peer.accept_request()
    connection.answer_and_defer()
    assert client.read_response().complete
    begin_drain(deferd)
    assert connection.silent(0.2), "the worker's connection was closed"
    assert deferd.running
    connection.finish_tasks()
    assert deferd.wait() == 0
    assert deferd.wait_for_request("/deferred").outcome == "completed"


def test_queued_request_is_served(one_slot, peer, connect):
    first, second = connect(one_slot), connect(one_slot)
    first.send_request(uri="/first")
    running = peer.accept_request()
    second.send_request(uri="/second")
    second.wait_read()
    begin_drain(one_slot)
    running.answer()
    assert first.read_response().complete
    peer.accept_request().answer(b"queued")
    assert second.read_response().body == b"queued"
    assert one_slot.wait() == 0


def test_second_signal_ends_it_at_once(deferd, peer, connect):
    running, deferred = connect(deferd), connect(deferd)
    running.send_request()
    peer.accept_request()
    deferred.send_request()
    peer.accept_request().answer_and_defer()
    assert deferred.read_response().complete
    begin_drain(deferd)
    deferd.expect_end()
    begun = time.monotonic()
    deferd.terminate(timeout=2.0)
    assert time.monotonic() - begun < 1.0
    assert running.read_record() is None


def test_request_that_is_still_arriving_does_not_hold_it_for_ever(deferd, client):
    """Its params never end: either it is closed, or a second signal helps."""
    client.begin()
    client.wait_read()
    begin_drain(deferd)
    waiting = Background(deferd.wait)
    try:
        assert waiting.result(0.5) == 0
    except DeadlinePassed:
        deferd.expect_end()
        deferd.signal(signal.SIGTERM)
        waiting.result(2.0)
