"""A drain loses no request that had come, and does not wait for ever for one that does not."""

import signal
import subprocess

import pytest
from harness import fcgi

HALVES = {
    "half a header": fcgi.begin_request(1)[:5],
    "a header without its content": fcgi.begin_request(1)[:8],
    "BEGIN_REQUEST": fcgi.begin_request(1),
    "half the params": fcgi.begin_request(1) + fcgi.record(fcgi.PARAMS, 1, b"\x01\x01ab"),
}


@pytest.mark.parametrize("half", HALVES)
def test_half_a_request_delays_the_end_for_seconds_only(deferd, client, half):
    client.send(HALVES[half])
    client.wait_read()
    deferd.expect_end()
    assert deferd.stop(timeout=8.0) == 0
    assert client.read_record() is None


def test_half_a_management_record_is_answered_and_the_connection_closed(deferd, client):
    record = fcgi.record(fcgi.GET_VALUES, 0, fcgi.encode_pairs([("FCGI_MAX_REQS", "")]))
    client.send(record[:12])
    client.wait_read()
    deferd.signal(signal.SIGTERM)
    deferd.wait_for_line("no new connections")
    client.send(record[12:])
    assert [r.type for r in client.read_records_until_closed()] == [fcgi.GET_VALUES_RESULT]
    deferd.expect_end()
    assert deferd.wait() == 0


def test_early_answer_reaches_a_client_that_is_still_sending(deferd, peer, client):
    """Closed at once, a socket with unread input tells its peer of an error instead of an end."""
    client.start("PUT", "/early", body_length=100000000)
    connection = peer.accept()
    connection.read_params()
    client.send_until_blocked(fcgi.record(fcgi.STDIN, 1, b"x" * 32768))
    deferd.signal(signal.SIGTERM)
    deferd.wait_for_line("no new connections")
    connection.answer(b"early")
    assert client.read_response().body == b"early"
    client.wait_closed()
    assert client.closed_by == "eof"
    client.close()
    deferd.expect_end()
    assert deferd.wait() == 0


def test_second_signal_while_it_ends_is_no_death_by_signal(start_deferd, peer):
    for _ in range(20):
        deferd = start_deferd(peer)
        deferd.expect_end()
        subprocess.run(["kill", "-TERM", str(deferd.pid)], check=True)
        subprocess.run(["kill", "-TERM", str(deferd.pid)], check=False, capture_output=True)
        assert deferd.wait() in (0, 1)
