"""The control socket: what it tells, what it changes, and that it harms nobody."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
from harness import (
    Background, CommandFailed, Control, DeadlinePassed, FcgiClient, Master, control, fcgi, proc,
    wait_until,
)
from harness.client import encode_request, request_params
from harness.daemon import find_binary, sanitized

KEYS = ["id", "pool", "state", "class", "pid", "method", "uri", "started", "age_ms", "outcome",
        "tasks"]
TASK_KEYS = ["name", "state", "ms", "ratio", "text", "error"]


def call(master, command, **options):
    return control(master.control, command, **options)


def fails(master, command):
    with pytest.raises(CommandFailed) as caught:
        call(master, command)
    return str(caught.value)


@pytest.fixture(name="master")
def fixture_master(start_master, peer):
    return start_master(peer, max_workers=4)


@pytest.fixture(name="own_binary")
def fixture_own_binary(workspace):
    """A copy of deferd that a test may replace, and everybody may run."""
    path = workspace.path("deferd")
    shutil.copy2(find_binary(), path)
    return path


@pytest.fixture(name="begin")
def fixture_begin(connect, peer):
    """begin(master, tasks, uri=…): a request in its deferred phase; its upstream connection."""

    def begin(master, tasks=("first", "second"), uri="/deferred", pid=4242, **options):
        client = connect(master)
        client.send_request(uri=uri, **options)
        connection = peer.accept_request()
        connection.answer_and_defer(tasks=tasks, pid=pid)
        assert client.read_response().complete
        return connection

    return begin


# --- looking -------------------------------------------------------------------------------------


def test_status_tells_of_the_process(master, begin):
    begin(master)
    status = call(master, "status")
    assert status["pid"] == master.worker_pid
    assert (status["pools"], status["workers"], status["busy"]) == (1, 4, 1)
    assert (status["deferred"], status["waiting"], status["requests"]) == (1, 0, 1)
    assert abs(status["started"] - time.time()) < 60
    assert set(status["outcomes"].values()) == {0}


def test_pools_tells_of_upstreams_and_classes(start_master, peer, connect):
    master = start_master(peer, max_workers=1, pool={"class[slow].max_workers": 1})
    running, waiting = connect(master), connect(master)
    running.send_request()
    peer.accept_request()
    waiting.send_request(params={"DEFERD_CLASS": "slow"})
    wait_until(lambda: call(master, "status")["waiting"] == 1)
    [pool] = call(master, "pools")
    assert (pool["name"], pool["paused"], pool["workers"], pool["busy"]) == ("www", False, 1, 1)
    assert (pool["waiting"], pool["deferred"], pool["held"]) == (1, 0, 0)
    [upstream] = pool["upstreams"]
    assert (upstream["workers"], upstream["busy"], upstream["up"]) == (1, 1, True)
    waiting = {entry["name"]: entry["waiting"] for entry in pool["classes"]}
    assert waiting == {"default": 0, "slow": 1}


def test_list_has_the_documented_keys_in_order(master, begin):
    phase = begin(master, uri="/a?b")
    phase.report({"event": "start", "task": 0})
    phase.report({"event": "progress", "task": 0, "ratio": 0.25, "text": "a quarter"})

    def find():
        [found] = call(master, "list")
        return found if found["tasks"][0]["text"] else None

    found = wait_until(find)
    assert list(found) == KEYS
    assert [list(task) for task in found["tasks"]] == [TASK_KEYS] * 2
    assert (found["id"], found["pool"], found["class"], found["pid"]) == (1, "www", "default", 4242)
    assert (found["method"], found["uri"]) == ("GET", "/a?b")
    assert (found["state"], found["outcome"]) == ("running", None)
    assert abs(found["started"] - time.time()) < 60
    assert 0 <= found["age_ms"] < 60000
    running, waiting = found["tasks"]
    assert (running["name"], running["state"], running["ratio"]) == ("first", "running", 0.25)
    assert running["text"] == "a quarter"
    assert running["ms"] is not None
    assert (waiting["state"], waiting["ms"], waiting["ratio"]) == ("waiting", None, None)


def test_show_has_times_and_errors(master, begin):
    phase = begin(master)
    phase.report({"event": "start", "task": 0}, {"event": "done", "task": 0, "ms": 12.5})
    phase.report({"event": "start", "task": 1},
                 {"event": "fail", "task": 1, "ms": 2, "error": "Oops: no in file:1"})
    phase.report({"event": "end"})
    phase.end()
    master.wait_for_request("/deferred")
    shown = call(master, "show 1")
    assert list(shown)[:len(KEYS)] == KEYS
    assert (shown["state"], shown["outcome"]) == ("failed", "failed")
    assert (shown["total"], shown["done"], shown["failed"], shown["skipped"]) == (2, 1, 1, 0)
    assert (shown["status"], shown["stray"]) == (200, 0)
    assert shown["tasks"][0]["ms"] == 12.5
    assert shown["tasks"][1]["error"] == "Oops: no in file:1"


def test_running_task_grows_older(master, begin):
    begin(master).report({"event": "start", "task": 0})
    wait_until(lambda: (call(master, "show 1")["tasks"][0]["ms"] or 0) >= 20)
    assert call(master, "show 1")["tasks"][0]["state"] == "running"


def finish(master, phase, how, uri):
    if how == "lost":
        phase.close()
    else:
        if how == "failed":
            phase.report({"event": "fail", "task": 0, "ms": 1, "error": "no"})
        phase.report({"event": "end"})
        phase.end()
    assert master.wait_for_request(uri).outcome == how


def test_list_filters(master, begin):
    for how in ("completed", "failed", "lost"):
        finish(master, begin(master, uri=f"/{how}"), how, f"/{how}")
    begin(master, uri="/running")

    def uris(command):
        return [phase["uri"] for phase in call(master, command)]

    assert uris("list") == uris("list --running") == ["/running"]
    assert uris("list --all") == ["/completed", "/failed", "/lost", "/running"]
    assert uris("list --completed") == ["/completed"]
    assert uris("list --failed --lost") == ["/failed", "/lost"]
    assert uris("list --stopped") == []
    assert "allowed are" in fails(master, "list --no-such")


def test_plain_requests_are_no_deferred_phases(master, peer, connect):
    client = connect(master)
    client.send_request(uri="/plain")
    peer.accept_request().answer()
    assert client.read_response().complete
    master.wait_for_request("/plain")
    assert call(master, "list --all") == []
    assert call(master, "status")["outcomes"]["answered"] == 1


@pytest.mark.time_limit(60)
def test_the_last_thousand_are_kept(master, start_peer, connect, peer):
    def serve(connection):
        connection.read_request()
        connection.answer_and_defer(tasks=("t",))
        connection.finish_tasks()
        connection.wait_closed()

    serving = Background(peer.serve, serve, 1005, 50)
    client = connect(master, timeout=30)
    for number in range(1005):
        client.send_request(uri=f"/{number}", keep=True)
        assert client.read_response().complete
    serving.result(50)
    wait_until(lambda: call(master, "status")["outcomes"]["completed"] == 1005)
    found = call(master, "list --all")
    assert [phase["uri"] for phase in found] == [f"/{number}" for number in range(5, 1005)]
    assert "there is no deferred phase 5 " in fails(master, "show 5")
    assert call(master, "show 6")["uri"] == "/5"


def test_phases_that_had_nothing_to_do_are_kept_only_if_they_did_not_end_in_order(master, begin):
    """Behind the bridges to frameworks each response has one."""
    ends = {
        "/completed": lambda phase: phase.finish_tasks(0),
        "/late": lambda phase: (phase.report({"event": "add", "tasks": ["late"]}),
                                phase.finish_tasks(1)),
        "/failed": lambda phase: (phase.report({"event": "fail", "task": 0, "error": "no"}),
                                  phase.finish_tasks(0)),
        "/lost": lambda phase: phase.close(),
        "/completed-too": lambda phase: phase.finish_tasks(0),
    }
    for uri, end in ends.items():
        phase = begin(master, (), uri)
        assert call(master, "list")[0]["uri"] == uri, "while it runs it is there"
        end(phase)
        assert master.wait_for_request(uri)
    assert [(phase["uri"], phase["state"]) for phase in call(master, "list --all")] == [
        ("/late", "completed"), ("/failed", "failed"), ("/lost", "lost")]
    assert "there is no deferred phase 1 " in fails(master, "show 1")
    assert call(master, "status")["outcomes"]["completed"] == 3, "they count all the same"


def test_hostile_texts_are_json_all_the_same(master, begin):
    name = "näme\x1b[2J\u202e\"\\"
    begin(master, tasks=(name,), uri="/\xff\xfe\x00\x1b]0;x\x07")
    [found] = call(master, "list")
    assert found["tasks"][0]["name"] == name
    assert found["uri"].startswith("/\\xFF\\xFE")


def test_long_texts_are_cut(master, begin):
    phase = begin(master, tasks=("n" * 200,))
    phase.report({"event": "start", "task": 0})
    phase.report({"event": "progress", "task": 0, "ratio": 7, "text": "ü" * 1000})
    wait_until(lambda: call(master, "show 1")["tasks"][0]["text"])
    task = call(master, "show 1")["tasks"][0]
    assert task["name"] == "n" * 128
    assert task["text"] == "ü" * 128
    assert task["ratio"] == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [("", "a line is a command"), ("nonsense", 'there is no command "nonsense"'),
     ("STATUS", "there is no command"), ("status now", "usage: status"),
     ("show", "usage: show ID"), ("show x", "an id is a number"), ("show -1", "an id is a number"),
     ("show 99999999999999999999999", "an id is a number"), ("show 7", "there is no deferred phase"),
     ("stop 7", "no deferred phase 7"), ("stop --hard 7", "allowed is stop ID"),
     ("stop --force", "an id is a number"), ("pause nobody", 'there is no pool "nobody"'),
     ("pause", "usage: pause POOL"), ("fpm-reload nobody", "there is no pool"),
     ("fpm-reload", "no pool has upstream.fpm_pid"),
     ("fpm-reload www", "pool www has no upstream.fpm_pid"),
     ("a b c d e f g h i", "a line is a command"), ("\x1b[2J", "\\x1B[2J")],
)
def test_wrong_commands_are_told(master, command, why):
    assert why in fails(master, command)


# --- stopping ------------------------------------------------------------------------------------


@pytest.fixture(name="stop_dir")
def fixture_stop_dir(workspace):
    return workspace.make_directory("stop")


@pytest.fixture(name="tasks")
def fixture_tasks(workspace, gate, script, connect):
    """tasks(master, "ok,gate"): a request whose callbacks are these kinds; its X-Pid."""

    def request(master, kinds):
        uri = f"/tasks.php?tasks={kinds}&gate={gate.path}&marks={workspace.path('marks')}"
        with FcgiClient(master.address) as client:
            response = client.request(uri=uri, script=script("tasks.php"))
        assert response.body == b"answered\n"
        return int(response.headers["x-pid"])

    return request


def test_stop_lets_the_running_callback_finish_and_skips_the_rest(
        start_master, shared_fpm, stop_dir, tasks, gate, workspace):
    master = start_master(shared_fpm, options={"stop_dir": stop_dir})
    tasks(master, "ok,gate,ok,add")
    wait_until(lambda: "waits 1" in workspace.lines("marks"))
    assert os.listdir(stop_dir) == []
    [phase] = call(master, "list")
    assert [task["state"] for task in phase["tasks"]] == ["done", "running", "waiting", "waiting"]
    assert call(master, f"stop {phase['id']}") == {}
    [name] = os.listdir(stop_dir)
    assert re.fullmatch(rf"{master.worker_pid}-1-[0-9a-f]{{16}}", name)
    assert call(master, "list")[0]["state"] == "stopping"
    call(master, f"stop {phase['id']}")  # twice is as good as once
    gate.open()
    request = master.wait_for_request(outcome="stopped")
    assert (request.done, request.skipped) == (2, 2)
    assert workspace.lines("marks") == ["ok 0", "waits 1", "ok 1"]
    assert os.listdir(stop_dir) == []
    [phase] = call(master, "list --stopped")
    assert [task["state"] for task in phase["tasks"]] == ["done", "done", "skipped", "skipped"]
    assert phase["tasks"][3]["text"] == "stopped"


def test_stop_that_comes_too_late_changes_no_outcome(start_master, shared_fpm, stop_dir, tasks,
                                                     gate, workspace):
    master = start_master(shared_fpm, options={"stop_dir": stop_dir})
    tasks(master, "gate")
    wait_until(lambda: "waits 0" in workspace.lines("marks"))
    call(master, "stop 1")
    gate.open()
    assert master.wait_for_request(outcome="completed").done == 1
    assert os.listdir(stop_dir) == []


def test_stop_files_of_a_killed_worker_go_with_the_next(start_master, start_peer, peer, begin,
                                                        stop_dir, workspace):
    """Its own alone; nobody else's, and not those of a worker that drains."""
    key = "0123456789abcdef"
    master = start_master(peer, options={"stop_dir": stop_dir})
    draining = begin(master)
    call(master, "stop 1")
    [drains] = os.listdir(stop_dir)
    master.reload()
    killed = master.worker_pid
    begin(master)
    call(master, "stop 2")
    secret = workspace.write("secret", "still here\n")
    os.symlink(secret, os.path.join(stop_dir, f"{killed}-7-{key}"))
    os.mkdir(os.path.join(stop_dir, f"{killed}-8-{key}"))
    others = [f"1-{key}", f"{killed}-9-{key}0", f"{killed}-9-{key[1:]}", f"{killed}--{key}",
              f"{killed}-9-{key.upper()}", f"x{killed}-9-{key}", f"-{killed}-9-{key}",
              f"{killed}-9x-{key}", f"{os.getpid()}-9-{key}", f"{2**34 + killed}-9-{key}", "notes"]
    for name in others:
        workspace.write(os.path.join("stop", name), "")
    master.wait_for_worker(master.kill_worker())
    master.wait_for_line("1 stop file.s. of workers that were killed removed")
    assert sorted(os.listdir(stop_dir)) == sorted(
        [*others, drains, f"{killed}-7-{key}", f"{killed}-8-{key}"])
    assert pathlib.Path(secret).read_text(encoding="utf-8") == "still here\n"
    draining.finish_tasks(2)
    wait_until(lambda: drains not in os.listdir(stop_dir))


def test_stop_without_a_directory_says_so(start_master, peer, begin, stop_dir):
    master = start_master(peer)
    begin(master)
    assert "stop_dir is not configured" in fails(master, "stop 1")
    master.options["stop_dir"] = stop_dir
    master.reload()
    os.rmdir(stop_dir)
    begin(master)
    assert "No such file or directory" in fails(master, "stop 2")
    assert call(master, "list")[0]["state"] == "running"


def stop_param(peer, client, data):
    """The PARAMS records of a request sent as these bytes."""
    client.send(data)
    connection = peer.accept_request()
    connection.answer()
    client.read_response()
    return connection.request


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_stop_directory_that_the_worker_cannot_write_to_is_told_at_once(start_master, peer,
                                                                        stop_dir):
    os.chmod(stop_dir, 0o711)
    master = start_master(peer, options={"user": "nobody", "stop_dir": stop_dir})
    assert "Permission denied" in master.wait_for_line(r"stop_dir = \S+: (.*)")[1]


def test_stop_path_stands_in_the_last_record_but_the_tokens(start_master, peer, connect, stop_dir):
    master = start_master(peer, options={"stop_dir": stop_dir})
    forged = request_params(extra={"DEFERD_STOP": "/etc/passwd"})
    request = stop_param(peer, connect(master), encode_request(forged))
    first, last = request.params_records
    assert [name for name, _ in fcgi.decode_pairs(last.content)] == [b"DEFERD_TOKEN"]
    name, value = fcgi.decode_pairs(first.content)[-1]
    assert name == b"DEFERD_STOP"
    assert re.fullmatch(re.escape(stop_dir) + r"/\d+-1-[0-9a-f]{16}", value.decode())
    other = stop_param(peer, connect(master), encode_request(request_params()))
    assert other.params["DEFERD_STOP"] != request.params["DEFERD_STOP"]


@pytest.mark.parametrize("room", [0, 100, 139, 140, 141, 200])
def test_stop_path_is_left_out_where_it_does_not_fit(start_master, peer, connect, stop_dir, room):
    """Around the end of a record: the pair takes up at most 140 bytes."""
    master = start_master(peer, options={"stop_dir": stop_dir}, pool={"max_params": "128K"})
    params = request_params()
    params["FILLER"] = ""
    missing = 65535 - room - len(fcgi.encode_pairs(params)) - 3
    params["FILLER"] = "x" * missing
    assert len(fcgi.encode_pairs(params)) == 65535 - room
    request = stop_param(peer, connect(master), encode_request(params))
    assert ("DEFERD_STOP" in request.params) == (room >= 140)
    assert request.params["FILLER"] == params["FILLER"]
    assert len(request.params_records) == 2


def test_params_that_are_cut_off_swallow_no_stop_path(start_master, peer, connect, stop_dir):
    master = start_master(peer, options={"stop_dir": stop_dir})
    pairs = fcgi.encode_pairs(request_params()) + bytes([4, 50]) + b"NAMEvalue"
    client = connect(master)
    client.send(fcgi.begin_request() + fcgi.stream(fcgi.PARAMS, 1, pairs))
    client.wait_closed()
    master.wait_for_line("a name-value pair is cut off")


def test_no_stop_param_without_a_directory(master, peer, connect):
    request = stop_param(peer, connect(master), encode_request(request_params()))
    assert "DEFERD_STOP" not in request.params


def test_force_ends_the_worker_and_php_fpm_goes_on(start_master, start_fpm, tasks, gate, workspace,
                                                   script, connect):
    fpm = start_fpm(workers=2)
    master = start_master(fpm, max_workers=2)
    pid = tasks(master, "gate,ok")
    wait_until(lambda: "waits 0" in workspace.lines("marks"))
    assert call(master, "stop --force 1") == {}
    request = master.wait_for_request(outcome="stopped")
    assert request.pid == pid
    wait_until(lambda: pid not in fpm.workers())
    fpm.wait_for_workers(2)
    assert workspace.lines("marks") == ["waits 0"]
    for _ in range(4):
        response = connect(master).request(uri="/hello.php", script=script("hello.php"))
        assert response.body == b"hello\n"
    [phase] = call(master, "list --stopped")
    assert [task["state"] for task in phase["tasks"]] == ["running", "waiting"]
    gate.open()


def test_force_is_refused_for_what_is_no_worker(master, begin):
    begin(master, pid=os.getpid())
    assert "is no php-fpm worker; it was not signalled" in fails(master, "stop --force 1")


def test_force_is_refused_for_another_php_fpms_worker(master, begin, shared_fpm):
    pid = shared_fpm.workers()[0]
    begin(master, pid=pid)
    assert "is no worker of the php-fpm that listens there" in fails(master, "stop --force 1")
    assert pid in shared_fpm.workers()


@pytest.mark.parametrize("pid", [0, -1, 1, 4194305, 2**40])
def test_force_is_refused_without_a_process(master, begin, pid):
    begin(master, pid=pid)
    assert "has not told its pid, or is gone" in fails(master, "stop --force 1")


# --- by force, when the worker is another user's -------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]


def reach_gate(master, tasks, workspace):
    """A phase whose first callback runs; its worker's pid."""
    pid = tasks(master, "gate,ok")
    wait_until(lambda: "waits 0" in workspace.lines("marks"))
    return pid


@pytest.fixture(name="roots_fpm")
def fixture_roots_fpm(start_fpm):
    """A php-fpm whose workers are root's, and which everybody may connect to."""
    return start_fpm(workers=2, pool={"listen.mode": "0666"})


@needs_root
@pytest.mark.parametrize("asked_before", [False, True])
def test_force_ends_another_users_worker(start_master, roots_fpm, tasks, gate, workspace, stop_dir,
                                         asked_before):
    os.chmod(stop_dir, 0o777)
    master = start_master(roots_fpm, options={"user": "nobody", "stop_dir": stop_dir})
    pid = reach_gate(master, tasks, workspace)
    if asked_before:
        call(master, "stop 1")
    assert call(master, "stop --force 1") == {}
    assert master.wait_for_request(outcome="stopped").pid == pid
    master.wait_for_line(rf"request 1: its worker, process {pid}, was told to end")
    wait_until(lambda: pid not in roots_fpm.workers())
    roots_fpm.wait_for_workers(2)
    assert os.listdir(stop_dir) == []
    assert call(master, "status")["pid"] == master.worker_pid, "control goes on"
    gate.open()


@needs_root
def test_force_that_is_asked_for_twice_is_still_a_stop(start_master, roots_fpm, tasks, gate,
                                                       workspace):
    """The second one comes while the first one is with the master."""
    master = start_master(roots_fpm, options={"user": "nobody"})
    reach_gate(master, tasks, workspace)
    master.signal(signal.SIGSTOP)
    try:
        first = Background(call, master, "stop --force 1")
        wait_until(lambda: call(master, "list")[0]["state"] == "stopping")
        assert "another command is with the master" in fails(master, "stop --force 1")
        assert call(master, "list")[0]["state"] == "stopping"
    finally:
        master.signal(signal.SIGCONT)
    assert first.result() == {}
    assert master.wait_for_request().outcome == "stopped"
    gate.open()


@needs_root
@pytest.mark.parametrize("known", [False, True])
def test_force_over_tcp_needs_php_fpms_pid_file(start_master, start_fpm, tasks, gate, workspace,
                                                known):
    pid_file = workspace.path("fpm.pid")
    fpm = start_fpm(workers=2, listen="127.0.0.1:0", options={"pid": pid_file})
    master = start_master(fpm, options={"user": "nobody"},
                          pool={"upstream.fpm_pid": pid_file if known else None})
    reach_gate(master, tasks, workspace)
    if known:
        assert call(master, "stop --force 1") == {}
        assert master.wait_for_request(outcome="stopped")
    else:
        assert "upstream.fpm_pid would say it" in fails(master, "stop --force 1")
        assert call(master, "list")[0]["state"] == "running"
    gate.open()
    if not known:
        assert master.wait_for_request(outcome="completed")


@needs_root
def test_force_needs_a_master_that_is_root(workspace, roots_fpm, own_binary, tasks, gate):
    master = Master(workspace, roots_fpm, binary=own_binary)
    os.chmod(master.directory, 0o777)
    plain = master.argv
    master.argv = lambda: [*NOBODY, *plain()]
    with master:
        pid = reach_gate(master, tasks, workspace)
        assert "only a master that is root may signal it" in fails(master, "stop --force 1")
        assert call(master, "list")[0]["state"] == "running"
        assert pid in roots_fpm.workers()
        gate.open()
        assert master.wait_for_request(outcome="completed")


@needs_root
def test_force_needs_a_master(start_deferd, roots_fpm, workspace, tasks, gate):
    path = workspace.path("control.sock")
    deferd = start_deferd(roots_fpm, arguments=["--control", path, "--user", "nobody"])
    reach_gate(deferd, tasks, workspace)
    with pytest.raises(CommandFailed, match="there is no master, for there is no configuration"):
        control(path, "stop --force 1")
    assert control(path, "list")[0]["state"] == "running"
    gate.open()
    assert deferd.wait_for_request(outcome="completed")


EVIL = """\
import os, sys
def say(*words):
    os.write(3, (" ".join(words) + chr(10)).encode())
os.set_blocking(3, True)
lines = os.fdopen(os.dup(3), "r", errors="replace")
say("ready")
for pid in sys.argv[2:]:
    pid, _, started = pid.partition("@")
    with open("/proc/" + pid + "/stat", errors="replace") as stat:
        started = started or stat.read().rpartition(")")[2].split()[19]
    say("end", "www", pid, started)
    with open(sys.argv[1], "a") as answers:
        answers.write(next(line for line in lines if line.startswith(("failed", "done"))))
for line in lines:
    if line.startswith("ping"):
        say("pong")
    if line.startswith(("retire", "drain")):
        break
"""


@needs_root
def test_worker_that_was_taken_over_can_have_nobody_else_ended(start_master, shared_fpm, start_fpm,
                                                               own_binary, workspace):
    """It asks for a process of root's, one that calls itself php-fpm and runs as a child of such a
    one, another php-fpm's worker, php-fpms' masters, deferd's, and a worker that is another one by now.
    """
    fpm = start_fpm(workers=1)
    named = ("import os, sys\n"
             "def name(text): open('/proc/self/comm', 'w').write(text)\n"
             "name('php-fpm: master')\n"
             "if os.fork() == 0: name('php-fpm: pool')\n"
             "sys.stdin.read()")
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(subprocess.Popen(["sleep", "60"]))
        stack.callback(plain.kill)
        forged = stack.enter_context(subprocess.Popen([sys.executable, "-c", named],
                                                      stdin=subprocess.PIPE))
        stack.callback(forged.stdin.close)
        wait_until(lambda: proc.children(forged.pid))
        master = start_master(fpm, binary=own_binary)
        victims = [plain.pid, forged.pid, *proc.children(forged.pid), *shared_fpm.workers()[:1],
                   shared_fpm.pid, fpm.pid, master.pid, *fpm.workers()]
        evil = workspace.write("evil.py", EVIL)
        workspace.write("deferd.new", f"""#!/bin/sh
[ "$1" = --worker ] && exec {sys.executable} {evil} {workspace.path("answers")} \
    {' '.join(map(str, victims))}@1
exec {find_binary()} "$@"
""")
        os.chmod(own_binary + ".new", 0o755)
        os.rename(own_binary + ".new", own_binary)
        master.upgrade()
        said = wait_until(lambda: len(workspace.lines("answers")) == len(victims)
                          and workspace.lines("answers"))
        assert all(line.startswith("failed process ") for line in said), said
        assert all("it was not signalled" in line for line in said[:-1]), said
        assert said[-1].endswith("is gone")
        assert all(map(proc.alive, victims))
        master.wait_for_line(r"worker \d+ asked for a signal to php-fpm: process \d+ is no worker")
        master.kill_worker()


# --- pools ---------------------------------------------------------------------------------------


def test_pause_holds_requests_and_resume_lets_them_go(master, peer, connect):
    call(master, "pause www")
    assert call(master, "pools")[0]["paused"] is True
    client = connect(master)
    client.send_request(uri="/waits")
    assert peer.idle()
    assert call(master, "status")["waiting"] == 1
    call(master, "resume www")
    peer.accept_request().answer()
    assert client.read_response().complete
    assert call(master, "pools")[0]["paused"] is False


def test_drain_answers_when_nothing_runs_or_is_deferred(master, peer, begin, connect):
    phase = begin(master)
    waiting = connect(master)
    draining = Background(call, master, "drain www")
    master.wait_for_line(r"NOTICE: \[www\] is drained: requests wait")
    assert call(master, "pools")[0]["paused"]
    waiting.send_request(uri="/waits")
    assert "under way" in fails(master, "drain www")
    assert peer.idle(), "a drained pool dispatches nothing"
    assert not draining.done
    phase.finish_tasks(2)
    assert draining.result() == {}
    assert call(master, "pools")[0]["paused"] is True
    call(master, "resume www")
    peer.accept_request().answer()
    assert waiting.read_response().complete


def test_drain_whose_client_leaves_is_forgotten(master, begin, peer):
    begin(master)
    with Control(master.control) as client:
        client.send("drain www")
        wait_until(lambda: call(master, "pools")[0]["paused"])
    wait_until(lambda: call(master, "resume www") == {}
               if not _drains(master) else False)


def _drains(master):
    try:
        call(master, "resume www")
    except CommandFailed:
        return True
    return False


def replace_worker(master, how):
    """Another worker works afterwards."""
    old = master.worker_pid
    if how == "death":
        master.kill_worker()
    elif how == "upgrade":
        master.upgrade()
    else:
        master.reload()
    master.wait_for_worker(old)


def paused(master):
    return [pool["paused"] for pool in call(master, "pools")]


@pytest.mark.parametrize("how", ["death", "reload", "upgrade"])
@pytest.mark.parametrize("command", ["pause www", "drain www"])
def test_paused_pool_stays_paused_in_the_next_worker(start_master, peer, connect, workspace, how,
                                                     command):
    master = start_master(peer, pools={"open": {
        "listen": workspace.path("open.sock"), "upstream": workspace.path("none.sock"),
        "upstream.max_workers": 1}})
    call(master, command)
    for _ in range(2):  # and in the one after that
        replace_worker(master, how)
        assert paused(master) == [True, False]
    replace_worker(master, "death")
    client = connect(master)
    client.send_request(uri="/waits")
    wait_until(lambda: call(master, "status")["waiting"] == 1)
    assert peer.idle()
    call(master, "resume www")
    peer.accept_request().answer()
    assert client.read_response().complete
    replace_worker(master, how)
    assert paused(master) == [False, False]


def test_requests_of_a_paused_pool_wait_in_the_old_worker_too(master, peer, connect):
    """Until somebody resumes it, who talks to the new one."""
    client = connect(master)
    call(master, "pause www")
    client.send_request(uri="/waits")
    wait_until(lambda: call(master, "status")["waiting"] == 1)
    old = master.worker_pid
    for how in ("reload", "upgrade"):
        replace_worker(master, how)
    assert old in master.worker_pids()
    assert call(master, "status")["waiting"] == 0
    assert peer.idle()
    call(master, "resume www")
    peer.accept_request().answer()
    assert client.read_response().complete
    master.wait_for_only(master.worker_pid)
    assert paused(master) == [False]


@pytest.mark.parametrize("end", ["quit", "death of the master"])
def test_requests_of_a_paused_pool_run_in_the_end(master, peer, connect, end):
    """In the old worker and in the new one: nobody could let them go on any more."""
    clients = [connect(master), connect(master)]
    call(master, "pause www")
    clients[0].send_request(uri="/old")
    wait_until(lambda: call(master, "status")["waiting"] == 1)
    replace_worker(master, "reload")
    clients[1].send_request(uri="/new")
    wait_until(lambda: call(master, "status")["waiting"] == 1)
    workers = master.worker_pids()
    if end == "quit":
        call(master, "quit")
    else:
        master.expect_end()
        master.kill()
    for _ in clients:
        peer.accept_request().answer()
    for client in clients:
        assert client.read_response().complete
    assert end != "quit" or master.wait() == 0
    wait_until(lambda: not any(map(proc.alive, workers)))


def test_fpm_reload_that_a_death_ends_leaves_nothing_paused(start_master, peer, begin, workspace):
    master = start_master(peer, pool={"upstream.fpm_pid": workspace.path("fpm.pid")})
    begin(master)
    with Control(master.control) as client:
        client.send("fpm-reload")
        wait_until(lambda: paused(master) == [True])
        replace_worker(master, "death")
    assert paused(master) == [False]


def test_quit_lets_a_paused_pools_requests_run(master, peer, connect):
    call(master, "pause www")
    client = connect(master)
    client.send_request(uri="/waits")
    wait_until(lambda: call(master, "status")["waiting"] == 1)
    assert call(master, "quit") == {}
    peer.accept_request().answer()
    assert client.read_response().complete
    assert master.wait() == 0


# --- reloading php-fpm ---------------------------------------------------------------------------


@pytest.fixture(name="fpm_site")
def fixture_fpm_site(start_master, start_fpm, start_nginx, workspace):
    """A php-fpm that can be reloaded, deferd with its pid file, nginx."""
    pid_file = workspace.path("fpm.pid")
    fpm = start_fpm(workers=4, options={"pid": pid_file})
    master = start_master(fpm, max_workers=4,
                          pool={"upstream.fpm_pid": pid_file, "queue.timeout": "60s"})
    return master, fpm, start_nginx(master, location="fastcgi_ignore_client_abort on;\n")


def test_fpm_reload_waits_for_callbacks_and_requests_wait_for_it(fpm_site, tasks, gate, workspace):
    master, fpm, nginx = fpm_site
    before = fpm.workers()
    tasks(master, "gate,ok")
    wait_until(lambda: "waits 0" in workspace.lines("marks"))
    reloading = Background(call, master, "fpm-reload")
    wait_until(lambda: call(master, "pools")[0]["paused"])
    request = Background(nginx.get, "/hello.php")
    wait_until(lambda: call(master, "status")["waiting"] == 1)
    assert fpm.workers() == before, "not while a callback runs"
    gate.open()
    assert reloading.result() == {}
    assert request.result().text == "hello\n"
    assert not set(before) & set(fpm.workers())
    assert workspace.lines("marks") == ["waits 0", "ok 0", "ok 1"]
    assert call(master, "pools")[0]["paused"] is False
    assert master.wait_for_request("/hello.php").queue_ms > 0


def test_fpm_reload_waits_for_the_callbacks_of_a_pool_that_is_gone(fpm_site, tasks, gate,
                                                                   workspace):
    """Its last requests may be with the same php-fpm."""
    master, fpm, _ = fpm_site
    before = fpm.workers()
    tasks(master, "gate,ok")
    wait_until(lambda: "waits 0" in workspace.lines("marks"))
    master.pools = {"new": {**master.pools["www"], "listen": workspace.path("new.sock")}}
    master.reload()
    reloading = Background(call, master, "fpm-reload")
    wait_until(lambda: call(master, "pools")[0]["paused"])
    with pytest.raises(DeadlinePassed):
        reloading.result(0.5)
    assert fpm.workers() == before
    gate.open()
    assert reloading.result() == {}
    assert not set(before) & set(fpm.workers())
    assert workspace.lines("marks") == ["waits 0", "ok 0", "ok 1"]


@pytest.mark.time_limit(90)
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_fpm_reloads_under_load_fail_no_request(fpm_site, workspace):
    master, fpm, nginx = fpm_site
    marks = workspace.path("marks")
    seconds = 12 if sanitized() else 6
    wrk = Background(subprocess.run, ["wrk", "-c64", "-t2", f"-d{seconds}s", "--timeout", "30s",
                                      f"{nginx.url}/load.php?marks={marks}"],
                     capture_output=True, text=True, check=True, timeout=seconds + 30)
    wait_until(lambda: os.path.exists(marks), 10, "the first requests")
    for _ in range(5):
        before = fpm.workers()
        call(master, "fpm-reload www", timeout=30)
        assert not set(before) & set(fpm.workers())
    assert not wrk.done, "the load ended before the reloads did"
    output = wrk.result(seconds + 40).stdout
    assert "Non-2xx" not in output and "Socket errors" not in output, output
    assert master.quit(30) == 0
    words = [line.split() for line in workspace.lines("marks")]
    registered = [word[1] for word in words if word[0] == "registered"]
    assert len(registered) > 100
    assert sorted(registered) == sorted(word[1] for word in words if word[0] == "ran")


def test_fpm_reload_without_keepalive(start_master, start_fpm, workspace, script, connect):
    pid_file = workspace.path("fpm.pid")
    fpm = start_fpm(workers=2, options={"pid": pid_file})
    master = start_master(fpm, pool={"upstream.fpm_pid": pid_file, "upstream.keepalive": "no"})
    before = fpm.workers()
    assert call(master, "fpm-reload www") == {}
    assert not set(before) & set(fpm.workers())
    [upstream] = call(master, "pools")[0]["upstreams"]
    assert (upstream["keeps"], upstream["idle"]) == ("no", 0)
    response = connect(master).request(uri="/hello.php", script=script("hello.php"))
    assert response.body == b"hello\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "cannot be seen"), ("nonsense\n", "holds no pid"), ("1\n", "holds no pid"),
     ("{self}\n", "is no php-fpm; it was not signalled"), ("4194305\n", "is not there")],
)
def test_fpm_reload_that_cannot_be_lets_requests_go_on(start_master, peer, connect, workspace,
                                                       content, why):
    path = workspace.path("fpm.pid")
    if content is not None:
        workspace.write("fpm.pid", content.format(self=os.getpid()))
    master = start_master(peer, pool={"upstream.fpm_pid": path})
    assert why in fails(master, "fpm-reload")
    assert call(master, "pools")[0]["paused"] is False
    client = connect(master)
    client.send_request()
    peer.accept_request().answer()
    assert client.read_response().complete


@needs_root
@pytest.mark.parametrize("over", ["unix", "tcp"])
def test_pid_file_of_another_user_names_nobody_elses_process(start_master, start_fpm, shared_fpm,
                                                             tasks, gate, workspace, over):
    """It lies in a directory of php-fpm's user, who has put the pid of somebody else's there."""
    listen = {"listen": "127.0.0.1:0"} if over == "tcp" else {}
    fpm = start_fpm(workers=2, **listen)
    victim = shared_fpm.workers()[0]
    path = workspace.write("fpm.pid", f"{victim if over == 'unix' else fpm.pid}\n")
    shutil.chown(path, "nobody")
    master = start_master(fpm, options={"user": "nobody"}, pool={"upstream.fpm_pid": path})
    if over == "unix":
        why = fails(master, "fpm-reload")
    else:
        pid = reach_gate(master, tasks, workspace)
        why = fails(master, "stop --force 1")
        assert pid in fpm.workers()
    assert "is not of the user that the file belongs to; it was not signalled" in why
    assert victim in shared_fpm.workers()
    gate.open()


@needs_root
def test_pid_file_of_another_user_names_that_users_php_fpm(start_master, peer, workspace):
    named = "open('/proc/self/comm', 'w').write('php-fpm'); print(flush=True); input()"
    with subprocess.Popen([*NOBODY, sys.executable, "-c", named], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as fpm:
        fpm.stdout.readline()
        path = workspace.write("fpm.pid", f"{fpm.pid}\n")
        shutil.chown(path, "nobody")
        master = start_master(peer, pool={"upstream.fpm_pid": path})
        with Control(master.control) as client:
            client.send("fpm-reload")
            assert fpm.wait(5) == -signal.SIGUSR2


def test_pid_file_that_is_a_link_is_not_followed(start_master, start_fpm, workspace):
    real, link = workspace.path("real.pid"), workspace.path("link.pid")
    fpm = start_fpm(workers=1, options={"pid": real})
    os.symlink(real, link)
    master = start_master(fpm, pool={"upstream.fpm_pid": link})
    before = fpm.workers()
    assert "symbolic links" in fails(master, "fpm-reload")
    assert fpm.workers() == before


def test_pid_file_that_is_a_fifo_holds_nobody_up(start_master, peer, workspace):
    """On Debian the directory of php-fpm's pid file is its users', and the master reads it."""
    path = workspace.path("fpm.pid")
    os.mkfifo(path)
    master = start_master(peer, pool={"upstream.fpm_pid": path})
    assert "holds no pid" in fails(master, "fpm-reload")
    assert master.reload()


def test_fpm_reload_holds_all_pools_of_the_same_php_fpm(start_master, start_fpm, workspace):
    pid_file = workspace.path("fpm.pid")
    fpm = start_fpm(workers=4, options={"pid": pid_file})
    pool = {"upstream": fpm.address, "upstream.max_workers": 2}
    master = start_master(fpm, pool={"upstream.fpm_pid": pid_file}, pools={
        "same": {**pool, "listen": workspace.path("same.sock"), "upstream.fpm_pid": pid_file},
        "other": {**pool, "listen": workspace.path("other.sock")},
    })
    call(master, "pause other")
    fpm.signal(signal.SIGSTOP)  # it does not come back by itself
    reloading = Background(call, master, "fpm-reload same")
    paused = wait_until(lambda: (found := {pool["name"]: pool["paused"]
                                           for pool in call(master, "pools")})["www"] and found)
    assert paused == {"www": True, "same": True, "other": True}
    with pytest.raises(DeadlinePassed):  # its old workers would answer: they do not count
        reloading.result(0.3)
    fpm.signal(signal.SIGCONT)
    assert reloading.result() == {}
    assert [pool["paused"] for pool in call(master, "pools")] == [False, False, True]
    assert sum("Reloading" in line or "reloading" in line for line in fpm.lines) >= 1


def test_fpm_reload_leaves_pools_paused_that_somebody_has_paused(start_master, start_fpm,
                                                                 workspace):
    pid_file = workspace.path("fpm.pid")
    fpm = start_fpm(workers=2, options={"pid": pid_file})
    pool = {"upstream": fpm.address, "upstream.max_workers": 2, "upstream.fpm_pid": pid_file}
    master = start_master(fpm, pool={"upstream.fpm_pid": pid_file}, pools={
        name: {**pool, "listen": workspace.path(f"{name}.sock")} for name in ("before", "after")
    })
    call(master, "pause before")
    fpm.signal(19)  # STOP: it does not come back by itself
    reloading = Background(call, master, "fpm-reload")
    wait_until(lambda: call(master, "pools")[0]["paused"])
    call(master, "pause after")
    fpm.signal(18)
    assert reloading.result() == {}
    assert [pool["paused"] for pool in call(master, "pools")] == [False, True, True]
    assert call(master, "resume before") == {}


# --- the process ---------------------------------------------------------------------------------


def test_reload_answers_when_the_new_worker_works(master):
    """Whoever connects after the answer talks to that one."""
    master.write_file()
    for _ in range(40):
        old = master.worker_pid
        assert call(master, "reload") == {}
        fresh = call(master, "status")["pid"]
        assert fresh != old
        master.wait_for_only(fresh)


def test_reload_tells_what_is_wrong(master):
    old = master.worker_pid
    master.write_file(master.text() + "nonsense = 1\n")
    why = fails(master, "reload")
    assert "nonsense: there is no such directive" in why
    assert call(master, "status")["pid"] == old


def test_upgrade_over_control(master):
    old = master.worker_pid
    assert call(master, "upgrade") == {}
    master.wait_for_line("upgrade: master .* goes on")
    assert call(master, "status")["pid"] != old
    assert master.running


def test_quit_over_control(master):
    assert call(master, "quit") == {}
    assert master.wait() == 0
    assert not os.path.exists(master.control)


def test_control_sockets_come_and_go_with_a_reload(master, workspace):
    first, second = master.control, workspace.path("second.sock")
    master.options["control"] = second
    master.reload()
    assert control(second, "status")["pid"] == master.worker_pid
    assert not os.path.exists(first)


def test_clients_do_not_hold_the_end(master, begin):
    phase = begin(master)
    with Control(master.control) as silent, Control(master.control) as drains:
        silent.send(b"sta")
        drains.send("drain www")
        wait_until(lambda: call(master, "pools")[0]["paused"])
        fresh = master.reload()
        answer = drains.read()
        assert (answer["ok"], answer["error"]) == (False, "deferd is ending, or reloading")
        assert drains.read() is None
        assert silent.read() is None
        phase.finish_tasks(2)
        master.wait_for_only(fresh)
    assert master.quit() == 0


def test_connection_serves_many_commands_in_order(master):
    with Control(master.control) as client:
        client.send(b"status\nshow 7\npools\r\nnonsense\n")
        answers = [client.read() for _ in range(4)]
    assert [answer["ok"] for answer in answers] == [True, False, True, False]


def test_flags_have_a_control_socket_too(start_deferd, peer, workspace, connect):
    path = workspace.path("control.sock")
    deferd = start_deferd(peer, arguments=["--control", path, "--control-mode", "0600"])
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert control(path, "status")["pid"] == deferd.pid
    with pytest.raises(CommandFailed, match="there is no master"):
        control(path, "reload")
    assert control(path, "quit") == {}
    assert deferd.wait() == 0
    assert not os.path.exists(path)


# --- rights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["reload", "upgrade", "quit", "pause www", "resume www",
                                     "drain www", "fpm-reload", "stop 1", "stop --force 1"])
def test_readonly_socket_changes_nothing(start_master, peer, begin, workspace, command):
    path = workspace.path("readonly.sock")
    master = start_master(peer, options={"control.readonly": path})
    begin(master)
    for look in ("status", "pools", "list", "show 1", "help"):
        assert control(path, look)
    with pytest.raises(CommandFailed, match="not allowed on this socket"):
        control(path, command)
    assert call(master, "pools")[0]["paused"] is False
    assert call(master, "list")[0]["state"] == "running"


def test_modes_and_groups_of_the_sockets(start_master, peer, workspace):
    path = workspace.path("readonly.sock")
    master = start_master(peer, options={
        "control.mode": "0600", "control.readonly": path, "control.readonly.mode": "0666",
        **({"control.group": "nogroup"} if os.geteuid() == 0 else {}),
    })
    assert stat.S_IMODE(os.stat(master.control).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    if os.geteuid() == 0:
        import grp
        assert os.stat(master.control).st_gid == grp.getgrnam("nogroup").gr_gid


# --- hostile clients -----------------------------------------------------------------------------


class Pulse:
    """Requests one after the other meanwhile; how long the slowest took."""

    def __init__(self, address, peer):
        self._address = address
        self._peer = peer
        self._ended = threading.Event()
        self.times = []
        self._threads = [threading.Thread(target=target, daemon=True)
                         for target in (self._ask, self._serve)]

    def _serve(self):
        while self._threads[0].is_alive():
            with contextlib.suppress(AssertionError, OSError):
                connection = self._peer.accept(0.2)
                connection.read_request()
                connection.answer()
                connection.wait_closed()

    def _ask(self):
        with FcgiClient(self._address) as client:
            while not self._ended.is_set():
                begun = time.monotonic()
                client.send_request(keep=True)
                assert client.read_response().complete
                self.times.append(time.monotonic() - begun)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._ended.set()
        for thread in self._threads:  # who asks has its answer before who serves ends
            thread.join(5.0)

    def median(self):
        return sorted(self.times)[len(self.times) // 2]


def test_garbage_is_answered_or_closed_and_nothing_else_happens(master, peer):
    worker = master.worker_pid
    garbage = [b"\0" * 100 + b"\n", os.urandom(5000), b"x" * 1024, b"x" * 100000, b"\n" * 500,
               b"status\0pools\n", b"{\"event\":1}\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
               b"\x01\x01\0\x01\0\x08\0\0" * 10, b"show " + b"9" * 900 + b"\n", b"\xff\xfe\n"]
    with Pulse(master.address, peer) as pulse:
        for data in garbage:
            with Control(master.control) as client, contextlib.suppress(OSError, ValueError):
                client.send(data)
                client.socket.shutdown(socket.SHUT_WR)
                while client.read() is not None:
                    pass
        wait_until(lambda: len(pulse.times) > 20)
    assert master.worker_pid == worker
    assert call(master, "status")["pid"] == worker


def test_line_that_is_too_long_is_told(master):
    with Control(master.control) as client:
        client.send(b"x" * 2000)
        assert "too long" in client.read()["error"]
        assert client.read() is None


def test_too_many_clients_are_told(master):
    clients = [Control(master.control) for _ in range(32)]
    try:
        for client in clients:
            assert client.call("status")
        with Control(master.control) as late:
            assert "too many clients" in late.read()["error"]
            assert late.read() is None
        clients.pop().close()
        wait_until(lambda: _served(master))
    finally:
        for client in clients:
            client.close()


def test_who_may_only_look_locks_nobody_out(start_master, peer, workspace):
    path = workspace.path("readonly.sock")
    master = start_master(peer, options={"control.readonly": path})
    with contextlib.ExitStack() as stack:
        for _ in range(32):
            assert stack.enter_context(Control(path)).call("status")
        with Control(path) as late:
            assert "too many clients" in late.read()["error"]
        assert call(master, "pause www") == {}


def _served(master):
    try:
        return call(master, "status")
    except (CommandFailed, OSError):
        return None


@pytest.mark.time_limit(60)
def test_floods_and_slow_readers_slow_and_grow_nothing(start_master, peer, begin, connect,
                                                       start_peer):
    """Some flood with the dearest command and read, some do not read; requests go on."""
    master = start_master(peer, max_workers=300)
    tasks = tuple(f"task {number} {'x' * 80}" for number in range(60))
    for _ in range(100):
        begin(master, tasks=tasks)
    with Pulse(master.address, peer) as pulse:
        wait_until(lambda: len(pulse.times) > 200)
        quiet = pulse.median()
        before = call(master, "status")
        clients = [Control(master.control) for _ in range(20)]
        stop = threading.Event()

        def flood(client):
            with contextlib.suppress(OSError, ValueError):
                while not stop.is_set():
                    client.send("list")
                    client.read()

        def drown(client):
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.socket.settimeout(0.2)
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    client.send(b"list\n" * 100)

        threads = [threading.Thread(target=flood if number % 2 else drown, args=(client,),
                                    daemon=True) for number, client in enumerate(clients)]
        for thread in threads:
            thread.start()
        pulse.times.clear()
        memory = _memory(master)
        peak = memory
        for _ in range(30):
            wait_until(lambda: len(pulse.times) > 20, 20)
            time.sleep(0.1)  # load over time is what is looked at, nothing is waited for
            peak = max(peak, _memory(master))
        loaded = sorted(pulse.times)
        stop.set()
        for client in clients:
            client.close()
        for thread in threads:
            thread.join(5.0)
    assert before["deferred"] == 100
    slow = 10 if sanitized() else 4
    assert loaded[len(loaded) // 2] < max(slow * quiet, 0.005 * slow), (quiet, loaded[-5:])
    assert loaded[-1] < 0.25 * slow, loaded[-5:]
    if not sanitized():
        assert peak - memory < 64 * 1024, (memory, peak)
    assert call(master, "status")["deferred"] == 100


def _memory(master):
    from harness import proc
    return proc.anonymous_kb(master.worker_pid)


@pytest.mark.time_limit(40)
def test_client_that_does_not_read_is_dropped(start_master, peer, begin):
    master = start_master(peer, max_workers=300)
    tasks = tuple(f"task {number} {'x' * 80}" for number in range(80))
    for _ in range(100):
        begin(master, tasks=tasks)
    with Control(master.control, timeout=30) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send("list")

        def dropped():
            try:
                client.socket.send(b"\n")
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True

        wait_until(dropped, 20, "the end of the connection", 0.2)
    assert call(master, "status")["pid"] == master.worker_pid


def test_silent_clients_hold_nothing(master, peer, connect):
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Control(master.control)).send(b"sta")
        client = connect(master)
        client.send_request()
        peer.accept_request().answer()
        assert client.read_response().complete
        assert call(master, "status")
        assert master.quit() == 0
