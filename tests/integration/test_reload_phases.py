"""Across reloads and upgrades: what operators see and stop of the deferred phases of workers that
drain, the history, and the numbers of requests."""

import fcntl
import json
import os
import re
import shutil
import signal
import struct
import termios

import pytest
from harness import (
    Background, CommandFailed, Control, DeadlinePassed, FcgiClient, control, fcgi, wait_until,
)
from harness.daemon import find_binary

KEYS = ["id", "pool", "state", "class", "pid", "method", "uri", "started", "age_ms", "outcome",
        "tasks"]


def call(master, command, **options):
    return control(master.control, command, **options)


def fails(master, command):
    with pytest.raises(CommandFailed) as caught:
        call(master, command)
    return str(caught.value)


def ids(master, command="list"):
    return [phase["id"] for phase in call(master, command)]


def wait_for_ids(master, expected, command="list"):
    wait_until(lambda: ids(master, command) == expected,
               what=f"{command}: {expected}, there are {ids(master, command)}")


@pytest.fixture(name="master")
def fixture_master(start_master, peer):
    return start_master(peer, max_workers=4)


@pytest.fixture(name="begin")
def fixture_begin(connect, peer):
    """begin(master, uri): a request in its deferred phase; its upstream connection."""

    def begin(master, uri="/deferred", tasks=("first", "second"), pid=4242):
        client = connect(master)
        client.send_request(uri=uri)
        connection = peer.accept_request()
        connection.answer_and_defer(tasks=tasks, pid=pid)
        assert client.read_response().complete
        return connection

    return begin


@pytest.fixture(name="own_binary")
def fixture_own_binary(workspace):
    path = workspace.path("deferd")
    shutil.copy2(find_binary(), path)
    return path


def finish(master, phase, uri, count=2):
    phase.finish_tasks(count)
    assert master.wait_for_request(uri).outcome == "completed"


# --- numbers -------------------------------------------------------------------------------------


def ask(master, peer, uri):
    with FcgiClient(master.address) as client:
        client.send_request(uri=uri)
        peer.accept_request().answer()
        assert client.read_response().complete
    return master.wait_for_request(uri).number


def test_numbers_go_on_after_reloads_deaths_and_upgrades(start_master, peer, own_binary):
    master = start_master(peer, binary=own_binary)
    numbers = [ask(master, peer, "/first")]
    master.wait_for_only(master.reload())
    numbers.append(ask(master, peer, "/reloaded"))
    master.wait_for_worker(master.kill_worker())
    numbers.append(ask(master, peer, "/replaced"))
    master.wait_for_only(master.upgrade())
    numbers.append(ask(master, peer, "/upgraded"))
    master.wait_for_only(master.reload())
    numbers.append(ask(master, peer, "/reloaded-by-the-new-one"))
    assert numbers == [1, 2, 3, 4, 5]


def test_two_workers_never_give_the_same_number(master, peer, connect):
    """Requests begin in both: on a kept connection that is half in one in the old worker."""
    params = fcgi.encode_pairs({"REQUEST_METHOD": "GET", "REQUEST_URI": "/half"})
    half = connect(master)
    half.send(fcgi.begin_request() + fcgi.record(fcgi.PARAMS, 1, params))
    half.wait_read()
    master.reload()
    assert ask(master, peer, "/new") == 2
    half.send(fcgi.record(fcgi.PARAMS, 1, b"") + fcgi.record(fcgi.STDIN, 1, b""))
    peer.accept_request().answer()
    assert half.read_response().complete
    assert master.wait_for_request("/half").number == 1


def test_a_worker_has_a_count_of_its_own_without_a_master(start_deferd, peer):
    deferd = start_deferd(peer)
    assert [ask(deferd, peer, "/a"), ask(deferd, peer, "/b")] == [1, 2]


# --- looking -------------------------------------------------------------------------------------


def test_list_and_show_know_the_phases_of_a_worker_that_drains(master, begin):
    phase = begin(master, "/a?b")
    phase.report({"event": "start", "task": 0},
                 {"event": "progress", "task": 0, "ratio": 0.25, "text": "a \"quarter\" \u00fc"})
    wait_until(lambda: call(master, "show 1")["tasks"][0]["text"])
    before = call(master, "show 1")
    old = master.worker_pid
    master.write_file()
    assert call(master, "reload") == {}
    [listed], after = call(master, "list"), call(master, "show 1")
    assert call(master, "status")["pid"] != old
    assert list(listed) == KEYS
    assert before["process"] == after["process"] == old
    for known in (before, after):
        assert known.pop("age_ms") >= 0
        assert known["tasks"][0].pop("ms") is not None
    assert abs(before.pop("started") - after.pop("started")) < 0.01
    assert after == before
    phase.report({"event": "done", "task": 0, "ms": 12.5}, {"event": "start", "task": 1})
    wait_until(lambda: call(master, "show 1")["done"] == 1)
    assert [task["state"] for task in call(master, "list")[0]["tasks"]] == ["done", "running"]


def test_what_was_seen_before_a_reload_is_seen_at_once_after_it(master, begin):
    master.write_file()
    for number in range(1, 21):
        phase = begin(master)
        assert ids(master) == [number]
        assert call(master, "reload") == {}
        assert ids(master) == [number]
        phase.finish_tasks(2)
        wait_for_ids(master, [])


def test_times_go_on_in_a_worker_that_drains(master, begin):
    phase = begin(master)
    phase.report({"event": "start", "task": 0})
    master.reload()
    wait_for_ids(master, [1])
    first = call(master, "show 1")
    wait_until(lambda: call(master, "show 1")["tasks"][0]["ms"] >= first["tasks"][0]["ms"] + 300)
    later = call(master, "show 1")
    assert later["age_ms"] >= first["age_ms"] + 300
    assert abs(later["started"] - first["started"]) < 0.01


def test_list_has_the_phases_of_all_workers_that_drain(master, begin):
    phases = [begin(master, "/0")]
    for number in (1, 2):
        master.reload()
        phases.append(begin(master, f"/{number}"))
    wait_until(lambda: sorted(ids(master)) == [1, 2, 3])
    assert len(call(master, "status")["draining"]) == 2
    for number, phase in enumerate(phases):
        finish(master, phase, f"/{number}")
    wait_until(lambda: not ids(master))
    assert ids(master, "list --completed") == [1, 2, 3]
    master.wait_for_only(master.worker_pid)
    assert call(master, "status")["draining"] == []


def test_a_request_that_ran_at_the_reload_is_seen_when_it_defers(master, peer, connect):
    client = connect(master)
    client.send_request(uri="/long")
    connection = peer.accept_request()
    master.reload()
    connection.answer_and_defer()
    assert client.read_response().complete
    wait_for_ids(master, [1])


def test_plain_requests_of_a_worker_that_drains_are_no_phases(master, peer, connect):
    client = connect(master)
    client.send_request(uri="/plain")
    connection = peer.accept_request()
    master.reload()
    wait_until(lambda: [old["busy"] for old in call(master, "status")["draining"]] == [1])
    connection.answer()
    assert client.read_response().complete
    master.wait_for_only(master.worker_pid)
    assert ids(master, "list --all") == []


def test_phases_are_seen_after_an_upgrade(start_master, peer, own_binary, begin):
    master = start_master(peer, binary=own_binary)
    ended, live = begin(master, "/ended"), begin(master, "/live")
    finish(master, ended, "/ended")
    master.upgrade()
    wait_for_ids(master, [1, 2], "list --all")
    master.reload()
    wait_for_ids(master, [1, 2], "list --all")
    assert ids(master) == [2]
    finish(master, live, "/live")
    wait_for_ids(master, [1, 2], "list --completed")


def test_phases_are_seen_when_a_worker_was_told_to_end(master, begin):
    """And is replaced: that is not a reload."""
    begin(master)
    old = master.kill_worker(signal.SIGQUIT)
    master.wait_for_worker(old)
    wait_for_ids(master, [1])
    assert call(master, "show 1")["process"] == old


def test_phases_are_seen_when_the_worker_that_works_is_replaced(master, begin):
    """The worker that drains tells the next one all of it again, here later than others end."""
    ended = begin(master, "/ended")
    begin(master, "/live")
    finish(master, ended, "/ended")
    old = master.worker_pid
    master.reload()
    wait_for_ids(master, [1, 2], "list --all")
    os.kill(old, signal.SIGSTOP)
    try:
        master.wait_for_worker(master.kill_worker())
        finish(master, begin(master, "/later"), "/later")
        assert ids(master, "list --all") == [3]
    finally:
        os.kill(old, signal.SIGCONT)
    wait_for_ids(master, [1, 3, 2], "list --all")
    assert ids(master) == [2]


def test_flood_of_progress_ends_with_the_last(master, begin):
    phase = begin(master)
    phase.report({"event": "start", "task": 0})
    master.reload()
    for number in range(20):
        phase.report(*({"event": "progress", "task": 0, "ratio": 0.5, "text": f"{number} {i}"}
                       for i in range(500)))
    wait_until(lambda: call(master, "show 1")["tasks"][0]["text"] == "19 499")


def test_a_phase_as_large_as_can_be_is_seen(master, begin):
    names = [f"{number:03} " + "\x01" * 124 for number in range(512)]
    phase = begin(master, "/first", tasks=())
    for at in range(0, 512, 8):
        phase.report({"event": "add", "tasks": names[at:at + 8]})
    wait_until(lambda: call(master, "show 1")["total"] == 512)
    master.reload()
    wait_for_ids(master, [1])
    assert [task["name"] for task in call(master, "show 1")["tasks"]] == names
    assert not master.has_line("tells what cannot be read")


# --- history -------------------------------------------------------------------------------------


def test_history_goes_on_in_the_order_of_the_ends(master, begin):
    early, late = begin(master, "/1"), begin(master, "/2")
    finish(master, early, "/1")
    master.reload()
    between = begin(master, "/3")
    finish(master, between, "/3")
    finish(master, late, "/2")
    wait_for_ids(master, [1, 3, 2], "list --all")
    assert call(master, "show 2")["outcome"] == "completed"
    master.reload()
    wait_for_ids(master, [1, 3, 2], "list --all")


def test_phases_that_had_nothing_to_do_are_not_kept_over_reloads(master, begin):
    nothing, something = begin(master, "/nothing", ()), begin(master, "/something")
    master.reload()
    wait_for_ids(master, [1, 2])
    finish(master, something, "/something")
    finish(master, nothing, "/nothing", 0)
    wait_for_ids(master, [])
    assert ids(master, "list --all") == [2]


@pytest.mark.time_limit(60)
def test_the_last_thousand_are_kept_over_reloads(master, peer, connect):
    def serve(connection):
        connection.read_request()
        connection.answer_and_defer(tasks=("t",))
        connection.finish_tasks()
        connection.wait_closed()

    def run(first, last):
        serving = Background(peer.serve, serve, last - first, 30)
        client = connect(master, timeout=30)
        for number in range(first, last):
            client.send_request(uri=f"/{number}", keep=True)
            assert client.read_response().complete
        serving.result(30)
        client.close()

    run(1, 701)
    wait_until(lambda: call(master, "status")["outcomes"]["completed"] == 700)
    master.reload()
    wait_for_ids(master, list(range(1, 701)), "list --all")
    run(701, 1201)
    wait_until(lambda: call(master, "status")["outcomes"]["completed"] == 500)
    expected = list(range(201, 1201))
    assert ids(master, "list --all") == expected
    master.reload()
    wait_for_ids(master, expected, "list --all")


def test_history_is_not_kept_without_a_control_socket(master, begin, workspace):
    """It begins when there is one."""
    socket = master.control
    master.options["control"] = None
    master.reload()
    phase = begin(master, "/unseen")
    finish(master, phase, "/unseen")
    live = begin(master, "/live")
    master.options["control"] = socket
    master.reload()
    wait_for_ids(master, [2], "list --all")
    finish(master, live, "/live")
    wait_for_ids(master, [], "list --all")


# --- stopping ------------------------------------------------------------------------------------


@pytest.fixture(name="stop_dir")
def fixture_stop_dir(workspace):
    return workspace.make_directory("stop")


@pytest.fixture(name="tasks")
def fixture_tasks(workspace, gate, script):
    """tasks(master, "ok,gate"): a request whose callbacks are these kinds; its X-Pid."""

    def request(master, kinds):
        uri = f"/tasks.php?tasks={kinds}&gate={gate.path}&marks={workspace.path('marks')}"
        with FcgiClient(master.address) as client:
            response = client.request(uri=uri, script=script("tasks.php"))
        assert response.body == b"answered\n"
        return int(response.headers["x-pid"])

    return request


@pytest.mark.parametrize("reloads", [1, 2])
def test_stop_reaches_a_worker_that_drains(start_master, shared_fpm, stop_dir, tasks, gate,
                                           workspace, reloads):
    master = start_master(shared_fpm, options={"stop_dir": stop_dir})
    tasks(master, "gate,ok")
    wait_until(lambda: "waits 0" in workspace.lines("marks"))
    for _ in range(reloads):
        master.reload()
        wait_for_ids(master, [1])
    assert call(master, "stop 1") == {}
    assert call(master, "list")[0]["state"] == "stopping"
    [name] = os.listdir(stop_dir)
    assert re.fullmatch(r"\d+-1-[0-9a-f]{16}", name)
    assert call(master, "stop 1") == {}  # twice is as good as once
    gate.open()
    request = master.wait_for_request(outcome="stopped")
    assert (request.number, request.done, request.skipped) == (1, 1, 1)
    wait_for_ids(master, [1], "list --stopped")
    assert os.listdir(stop_dir) == []


@pytest.mark.parametrize("reloads", [1, 2])
def test_stop_by_force_reaches_a_worker_that_drains(start_master, start_fpm, tasks, gate, workspace,
                                                    reloads):
    fpm = start_fpm(workers=2)
    master = start_master(fpm, max_workers=2)
    pid = tasks(master, "gate,ok")
    wait_until(lambda: "waits 0" in workspace.lines("marks"))
    for _ in range(reloads):
        master.reload()
        wait_for_ids(master, [1])
    assert call(master, "stop --force 1") == {}
    assert master.wait_for_request(outcome="stopped").pid == pid
    wait_for_ids(master, [1], "list --stopped")
    wait_until(lambda: pid not in fpm.workers())
    gate.open()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("may", [True, False])
def test_stop_by_force_of_another_users_worker_goes_through_the_master(start_master, start_fpm,
                                                                       tasks, gate, workspace, may):
    """From the worker that works to the one that drains, from there to the master, and back."""
    fpm = start_fpm(workers=2, pool={"listen.mode": "0666"})
    master = start_master(fpm, options={"user": "nobody"})
    pid = tasks(master, "gate,ok")
    wait_until(lambda: "waits 0" in workspace.lines("marks"))
    if not may:
        # The master looks at the upstreams that are configured now.
        master.pools["www"]["upstream"] = workspace.path("other.sock")
    master.reload()
    wait_for_ids(master, [1])
    if may:
        assert call(master, "stop --force 1") == {}
        assert master.wait_for_request(outcome="stopped").pid == pid
        wait_until(lambda: pid not in fpm.workers())
    else:
        assert "other.sock" in fails(master, "stop --force 1")
        assert call(master, "list")[0]["state"] == "running"
        assert pid in fpm.workers()
    gate.open()


def test_why_a_stop_failed_in_a_worker_that_drains_is_told(master, begin):
    begin(master, pid=os.getpid())
    master.reload()
    wait_for_ids(master, [1])
    assert "stop_dir is not configured" in fails(master, "stop 1")
    assert "is no php-fpm worker; it was not signalled" in fails(master, "stop --force 1")
    assert call(master, "list")[0]["state"] == "running"
    assert "no deferred phase 2 is under way" in fails(master, "stop 2")


def stop_begins(master, client):
    """Sends stop 1; returns when deferd has begun with it: commands are run in turn."""
    client.send("stop 1")
    wait_until(lambda: not struct.unpack(
        "i", fcntl.ioctl(client.socket, termios.TIOCOUTQ, b"\0" * 4))[0])
    call(master, "status")


def test_stop_does_not_wait_for_a_worker_that_hangs(master, begin):
    begin(master)
    old = master.worker_pid
    master.reload()
    wait_for_ids(master, [1])
    os.kill(old, signal.SIGSTOP)
    try:
        asked = Background(fails, master, "stop 1")
        assert ids(master) == [1], "others are answered meanwhile"
        assert f"worker process {old}, which has the phase, does not answer" in asked.result()
    finally:
        os.kill(old, signal.SIGCONT)
    assert "stop_dir is not configured" in fails(master, "stop 1")


def test_stop_that_waits_is_answered_when_the_worker_dies(master, begin):
    begin(master)
    old = master.worker_pid
    master.reload()
    wait_for_ids(master, [1])
    os.kill(old, signal.SIGSTOP)
    with Control(master.control) as client:
        stop_begins(master, client)
        os.kill(old, signal.SIGKILL)
        assert client.read()["error"] == "the worker process that had the phase has ended"


def test_client_that_leaves_while_its_stop_waits_harms_nobody(master, begin):
    begin(master)
    old = master.worker_pid
    master.reload()
    wait_for_ids(master, [1])
    os.kill(old, signal.SIGSTOP)
    with Control(master.control) as client:
        stop_begins(master, client)
    os.kill(old, signal.SIGCONT)
    assert "stop_dir is not configured" in fails(master, "stop 1")
    assert ids(master) == [1]


# --- ends ----------------------------------------------------------------------------------------


def test_phases_of_a_worker_that_is_killed_while_it_drains_are_lost(master, begin):
    ended, live = begin(master, "/ended"), begin(master, "/live")
    finish(master, ended, "/ended")
    live.report({"event": "start", "task": 0}, {"event": "done", "task": 0, "ms": 1})
    old = master.worker_pid
    master.reload()
    wait_for_ids(master, [1, 2], "list --all")
    wait_until(lambda: call(master, "show 2")["done"] == 1)
    os.kill(old, signal.SIGKILL)
    wait_for_ids(master, [2], "list --lost")
    assert ids(master) == []
    assert ids(master, "list --all") == [1, 2]
    master.wait_for_line(
        rf"WARNING: request 2: its deferred phase is lost with worker process {old}, which "
        r"drained; 1 of 2 tasks had not ended")
    assert call(master, "status")["draining"] == []


def test_phases_that_are_cut_are_lost(start_master, peer, begin):
    master = start_master(peer, options={"shutdown_timeout": "300ms"})
    begin(master)
    master.reload()
    master.wait_for_line("request 1: cut in its deferred phase")
    wait_for_ids(master, [1], "list --lost")


def test_a_worker_that_works_and_is_killed_takes_its_history_along(master, begin):
    finish(master, begin(master, "/ended"), "/ended")
    begin(master, "/live")
    master.wait_for_worker(master.kill_worker())
    assert ids(master, "list --all") == []


def test_an_end_in_order_loses_nothing(master, begin):
    """Both workers are told at once; whichever hears it first."""
    phase = begin(master)
    fresh = master.reload()
    wait_for_ids(master, [1])
    master.signal(signal.SIGQUIT)
    master.wait_for_line(rf"worker {fresh} ended")
    finish(master, phase, "/deferred")
    assert master.wait() == 0
    assert not master.has_line("is lost with")


# --- counts --------------------------------------------------------------------------------------


def test_drain_waits_for_the_workers_that_drain(master, peer, connect):
    """For what runs there too, deferred or not."""
    client = connect(master)
    client.send_request(uri="/long")
    connection = peer.accept_request()
    master.write_file()
    assert call(master, "reload") == {}
    draining = Background(call, master, "drain www")
    wait_until(lambda: call(master, "pools")[0]["paused"])
    wait_until(lambda: [old["busy"] for old in call(master, "status")["draining"]] == [1])
    connection.answer_and_defer(tasks=("one",))
    assert client.read_response().complete
    wait_until(lambda: call(master, "pools")[0]["draining"] == 1)
    assert not draining.done
    connection.finish_tasks()
    assert draining.result() == {}


def test_drain_waits_for_a_worker_that_does_not_drain_yet(start_master, peer, begin, own_binary,
                                                          gate, workspace):
    """The next worker is asked before the master has heard that it is ready."""
    master = start_master(peer, binary=own_binary)
    phase, old = begin(master), master.worker_pid
    workspace.write("deferd.new", f"""#!/bin/sh
[ "$1" = --worker ] && flock -s {gate.path} true
exec {find_binary()} "$@"
""")
    os.chmod(own_binary + ".new", 0o755)
    os.rename(own_binary + ".new", own_binary)
    master.signal(signal.SIGUSR2)
    wait_until(lambda: len(master.worker_pids()) == 2)
    master.signal(signal.SIGSTOP)
    os.kill(old, signal.SIGSTOP)  # so that the other one is asked
    try:
        gate.open()
        drain = Background(call, master, "drain www")
        master.wait_for_line(r"NOTICE: \[www\] is drained: requests wait")
        with pytest.raises(DeadlinePassed):
            drain.result(0.3)
    finally:
        os.kill(old, signal.SIGCONT)
        master.signal(signal.SIGCONT)
    master.wait_for_line("another worker has taken over")  # or the old one would be asked
    wait_for_ids(master, [1])
    assert not drain.done
    phase.finish_tasks(2)
    assert drain.result() == {}


def test_drain_does_not_wait_for_requests_that_wait_for_its_end(start_master, peer, connect):
    """In a worker that drains they are held back as those in the other one are."""
    master = start_master(peer, max_workers=1)
    first, second = connect(master), connect(master)
    first.send_request(uri="/runs")
    running = peer.accept_request()
    second.send_request(uri="/waits")
    wait_until(lambda: call(master, "status")["waiting"] == 1)
    master.reload()
    wait_until(lambda: [old["busy"] for old in call(master, "status")["draining"]] == [2])
    drain = Background(call, master, "drain www")
    wait_until(lambda: [old["busy"] for old in call(master, "status")["draining"]] == [1])
    assert not drain.done
    running.answer()
    assert drain.result() == {}
    assert first.read_response().complete
    assert peer.idle()
    call(master, "resume www")
    peer.accept_request().answer()
    assert second.read_response().complete


def test_status_and_pools_count_what_drains(master, begin):
    old = master.worker_pid
    phases = [begin(master, f"/{number}") for number in range(2)]
    master.reload()
    wait_for_ids(master, [1, 2])
    begin(master, "/own")
    status, [pool] = call(master, "status"), call(master, "pools")
    assert status["draining"] == [{"pid": old, "busy": 2, "deferred": 2}]
    assert (status["deferred"], status["busy"], status["requests"]) == (1, 1, 1)
    assert (pool["deferred"], pool["draining"]) == (1, 2)
    finish(master, phases[0], "/0")
    wait_until(lambda: call(master, "status")["draining"][0]["deferred"] == 1)


def page(master, query="json&full"):
    with FcgiClient(master.address) as client:
        response = client.request(uri=f"/status?{query}")
        assert response.status == 200
        return response.body.decode()


def test_the_status_page_has_what_drains(start_master, peer, begin, connect):
    master = start_master(peer, max_workers=4, pool={"status_path": "/status"})
    phase = begin(master, "/draining?<b>", tasks=("one", "two"))
    old = master.worker_pid
    running = connect(master)
    running.send_request(uri="/running")
    peer.accept_request()
    master.reload()
    begin(master, "/own")
    wait_for_ids(master, [1, 3])
    phase.report({"event": "start", "task": 0}, {"event": "done", "task": 0, "ms": 1},
                 {"event": "start", "task": 1},
                 {"event": "progress", "task": 1, "ratio": 0.5, "text": "half"})
    wait_until(lambda: call(master, "show 1")["tasks"][1]["text"])
    shown = json.loads(page(master))
    assert (shown["deferred processes"], shown["draining deferred processes"]) == (1, 1)
    assert (shown["active processes"], shown["processes omitted"]) == (1, 0)
    own, draining = shown["processes"]
    assert list(own) == list(draining)
    assert (own["request uri"], own["state"], own["draining"]) == ("/own", "Deferred", 0)
    assert (draining["request uri"], draining["state"]) == ("/draining?<b>", "Deferred")
    assert (draining["id"], draining["pid"], draining["draining"]) == (1, 4242, old)
    assert draining["request duration"] >= draining["deferred duration"] > 0
    assert (draining["tasks total"], draining["tasks ended"]) == (2, 1)
    assert draining["tasks"][1] == {"name": "two", "state": "running", "ratio": 0.5,
                                    "text": "half"}
    metrics = page(master, "openmetrics")
    assert 'deferd_deferred_phases_draining{pool="www"} 1\n' in metrics
    assert "deferd_draining_workers 1\n" in metrics
    assert "draining deferred processes: 1" in re.sub(" +", " ", page(master, "full"))
