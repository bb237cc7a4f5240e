"""What the application reports in its deferred phase, and what deferd makes of it."""

import json
import re

import pytest
from harness import fcgi

BEGIN = {"event": "begin", "pid": 77, "tasks": ["first", "second"]}


@pytest.fixture(name="phase")
def fixture_phase(peer, client):
    """A connection whose response was ended by the marker; no report was sent."""
    client.send_request(uri="/reported", keep=True)
    connection = peer.accept_request()
    connection.stdout(b"Content-Type: text/plain\r\n\r\nbody")
    connection.marker()
    response = client.read_response()
    assert (response.body, response.complete) == (b"body", True)
    return connection


def done(task):
    return {"event": "done", "task": task, "ms": 12.5}


def outcome(deferd):
    request = deferd.wait_for_request("/reported")
    return request.outcome, request.done, request.failed, request.skipped


def test_all_tasks_done_is_completed(deferd, phase):
    phase.report(BEGIN, {"event": "start", "task": 0}, done(0))
    phase.report({"event": "start", "task": 1}, done(1), {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)
    request = deferd.wait_for_request("/reported")
    assert (request.pid, request.status) == (77, 200)
    assert request.deferred_ms is not None


def test_one_failed_task_is_failed_and_named(deferd, phase):
    phase.report(BEGIN, done(0),
                 {"event": "fail", "task": 1, "ms": 1, "error": "RuntimeException: no in /a.php:3"},
                 {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("failed", 1, 1, 0)
    cause = deferd.wait_for_cause("RuntimeException")
    assert "second" in cause.text
    assert "no in /a.php:3" in cause.text


def test_skipped_task_is_counted(deferd, phase):
    phase.report(BEGIN, done(0), {"event": "skip", "task": 1, "why": "cancelled"}, {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 1, 0, 1)


def test_tasks_added_by_a_task_are_counted(deferd, phase):
    phase.report(BEGIN, done(0), {"event": "add", "tasks": ["third", "fourth"]})
    phase.report(done(1), done(2), done(3), {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 4, 0, 0)


def test_a_phase_may_have_no_task(deferd, phase):
    phase.report({**BEGIN, "tasks": []}, {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 0, 0, 0)
    assert deferd.wait_for_request("/reported").pid == 77


def test_tasks_may_be_added_behind_the_end_and_run_within_one_another(deferd, phase):
    phase.report({**BEGIN, "tasks": []}, {"event": "end"}, {"event": "add", "tasks": ["a", "b"]},
                 {"event": "start", "task": 1}, {"event": "start", "task": 0}, done(0), done(1),
                 {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


def test_a_report_behind_the_end_takes_it_back(deferd, phase):
    phase.report(BEGIN, done(0), {"event": "end"}, {"event": "start", "task": 1})
    phase.end()
    assert outcome(deferd) == ("lost", 1, 0, 0)


@pytest.mark.parametrize("close", ["end", "close"])
def test_no_end_is_lost_and_names_the_tasks_not_done(deferd, phase, close):
    phase.report(BEGIN, {"event": "add", "tasks": ["third"]}, {"event": "start", "task": 0})
    phase.report(done(0), {"event": "start", "task": 1})
    getattr(phase, close)()
    assert outcome(deferd) == ("lost", 1, 0, 0)
    cause = deferd.wait_for_cause("second")
    assert "third" in cause.text
    assert "first" not in cause.text


def test_end_of_the_connection_without_any_report_is_lost(deferd, phase):
    phase.close()
    assert outcome(deferd)[0] == "lost"


def test_end_without_any_report_is_unreported(deferd, phase):
    phase.end()
    assert outcome(deferd)[0] == "unreported"


def test_stray_output_alone_is_unreported(deferd, phase):
    phase.stdout(b"not a report\nneither this")
    phase.end()
    assert outcome(deferd)[0] == "unreported"


def test_progress_changes_nothing(deferd, phase):
    phase.report(BEGIN, {"event": "progress", "task": 0, "ratio": 0.5, "text": "half"},
                 {"event": "progress", "task": 0, "ratio": 17}, done(0), done(1), {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


def test_unknown_keys_are_ignored(deferd, phase):
    phase.report({**BEGIN, "colour": [1, {"a": None}]}, {**done(0), "x": "y"}, done(1),
                 {"event": "end", "more": True})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


NO_REPORTS = [
    b"plain text",
    b"",
    b"{",
    b"{}",
    b"[]",
    b"null",
    b'"event"',
    b"42",
    b'{"event":"unheard of"}',
    b'{"event":5}',
    b'{"event":null}',
    b'{"event":["end"]}',
    b'{"event":"End"}',
    b'{"event":"done"}',
    b'{"event":"done","task":"0"}',
    b'{"event":"done","task":-1}',
    b'{"event":"done","task":0.5}',
    b'{"event":"done","task":99999999999999999999999999}',
    b'{"event":"done","task":0} trailing',
    b'{"event":"begin","pid":1,"tasks":"a"}',
    b'{"event":"begin","pid":1,"tasks":[1]}',
    b'{"event":"add"}',
    b'{"event":"end"',
    b"\xff\xfe{}",
    b'{"event":"fail","task":0,"error":"\xff"}',
    b"\0",
    b'{"event":"end"\0}',
    b"[" * 5000,
    b'{"a":' * 1500,
    b"\x1eDEFERD/1 END 0123456789abcdef0123456789abcdef",
]


@pytest.mark.parametrize("line", NO_REPORTS, ids=lambda line: repr(line[:40]))
def test_what_is_no_report_changes_nothing(deferd, phase, line):
    line += b"\n"
    phase.report(BEGIN, line, done(0), line, done(1), line, {"event": "end"}, line)
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


@pytest.mark.parametrize("task", [2, 1000, 2**31, 2**32, 2**63 - 1])
def test_task_that_was_never_announced_does_not_count(deferd, phase, task):
    phase.report(BEGIN, done(0), done(task), {"event": "start", "task": task},
                 {"event": "skip", "task": task, "why": ""}, done(1), {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


def test_task_that_is_done_twice_counts_once(deferd, phase):
    phase.report(BEGIN, done(0), done(0), done(0), done(1), {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


def test_lines_cut_anywhere(deferd, peer, client):
    events = [BEGIN, {"event": "start", "task": 0}, done(0), done(1), {"event": "end"}]
    data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    for count, at in enumerate(range(1, len(data), 3)):
        client.send_request(uri="/cut", keep=True)
        connection = peer.accept_request()
        connection.stdout(b"X-A: b\r\n\r\n" + fcgi.marker(connection.request.token) + data[:at])
        assert client.read_response().complete
        connection.wait_read()
        connection.stdout(data[at:])
        connection.end()
        request = deferd.wait_for_request("/cut", count + 1)
        assert (request.outcome, request.done) == ("completed", 2)


def test_lines_byte_by_byte(deferd, phase):
    for byte in b"".join(json.dumps(event).encode() + b"\n" for event in [BEGIN, done(0), done(1)]):
        phase.stdout(bytes([byte]))
    phase.report({"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


def test_line_of_the_greatest_length_is_read(deferd, phase):
    long = {"event": "begin", "pid": 77, "tasks": ["first", "second"], "fill": ""}
    length = len(json.dumps(long, separators=(",", ":"))) + 1
    long["fill"] = "x" * (8192 - length)
    phase.report(long, done(0), done(1), {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


def test_line_beyond_the_greatest_length_is_stray(deferd, phase):
    long = {"event": "begin", "pid": 77, "tasks": ["first", "second"], "fill": "x" * 8192}
    phase.report(long, BEGIN, done(0), done(1), {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


def test_reports_in_the_write_of_the_end(deferd, phase):
    events = [BEGIN, done(0), done(1), {"event": "end"}]
    lines = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    phase.send(fcgi.record(fcgi.STDOUT, 1, lines) + fcgi.end_request(1))
    assert outcome(deferd) == ("completed", 2, 0, 0)


def test_thousands_of_tasks(deferd, phase):
    phase.report({"event": "begin", "pid": 77, "tasks": []})
    for at in range(0, 5000, 100):
        names = [f"task {number}" for number in range(at, at + 100)]
        phase.report({"event": "add", "tasks": names})
    phase.report(*(done(task) for task in range(4999)), {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 4999, 0, 0)


def test_stray_output_is_logged_at_debug_level_only(start_deferd, peer, connect):
    for level, shown in (("debug", True), ("notice", False)):
        deferd = start_deferd(peer, log_level=level)
        client = connect(deferd)
        client.send_request(uri="/stray")
        connection = peer.accept_request()
        connection.answer_and_defer()
        connection.stdout(b"a stray line " + b"x" * 600 + b"\nanother\n")
        connection.finish_tasks()
        assert client.read_response().complete
        deferd.wait_for_request("/stray")
        assert deferd.has_line("a stray line x{200}") == shown
        assert deferd.has_line("another") == shown
        assert not deferd.has_line("x{257}")


def test_stderr_goes_to_deferds_log_with_the_request(deferd, phase, client):
    phase.stderr(b"PHP message: PHP Warning: deferred trouble")
    phase.report(BEGIN, done(0), done(1), {"event": "end"})
    phase.end()
    request = deferd.wait_for_request("/reported")
    line = next(line for line in deferd.lines if "deferred trouble" in line)
    assert re.search(rf"\brequest {request.number}\b", line)
    assert client.silent(0.05), "something came to the client after its response"


def test_names_and_errors_cannot_forge_log_lines(deferd, phase):
    forged = "\n[21-Nov-2026 10:00:00.000] NOTICE: request=1 forged"
    phase.report({"event": "begin", "pid": 77, "tasks": [forged, "lost" + forged]},
                 {"event": "fail", "task": 0, "ms": 1, "error": forged})
    phase.stderr(forged.encode())
    phase.close()
    assert outcome(deferd)[0] == "lost"
    assert not any(line.startswith("[21-Nov-2026 10:00:00.000]") for line in deferd.lines)


def test_client_that_leaves_does_not_disturb_the_phase(deferd, phase, client):
    phase.report(BEGIN)
    client.close()
    phase.report(done(0), done(1), {"event": "end"})
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)


def test_reports_after_the_end_do_not_shake_it(deferd, phase):
    phase.report(BEGIN, done(0), done(1), {"event": "end"})
    phase.stdout(b"printed by a destructor\n")
    phase.end()
    assert outcome(deferd) == ("completed", 2, 0, 0)
