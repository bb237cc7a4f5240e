"""Where the error log goes and in which form, the slow log, and readers that do not read."""

import json
import os
import re
import signal
import socket
import subprocess
import threading

import pytest
from harness import Deferd, FcgiClient, wait_until


def serve(deferd, peer, uri="/"):
    with FcgiClient(deferd.address) as client:
        client.send_request(uri=uri)
        peer.accept_request().answer(b"hello\n")
        assert client.read_response().complete


def lines_of(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


def wait_for_lines(path, count=1, timeout=5.0):
    wait_until(lambda: len(lines_of(path)) >= count, timeout, f"{count} lines in {path}")
    return lines_of(path)


# --- readers that hang ---------------------------------------------------------------------------


class Pipe:
    """A pipe for standard error that nobody reads until somebody wants to."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.read = b""

    def drain(self):
        try:
            while data := os.read(self.reader, 1 << 20):
                self.read += data
        except BlockingIOError:
            pass
        return self.read.decode("utf-8")

    def fill(self):
        """Leaves no room in it."""
        fd = os.open(f"/proc/self/fd/{self.writer}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(fd, b"#\n" * 512)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)

    def close(self):
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture(name="pipe")
def fixture_pipe():
    pipe = Pipe()
    yield pipe
    pipe.close()


class Mute(Deferd):
    """A deferd whose standard error is a pipe of the test's."""

    def __init__(self, listen, upstream, pipe, **options):
        super().__init__(listen, upstream, keepalive="no", **options)
        self._pipe = pipe

    def spawn(self, argv, **_):
        self._child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._pipe.writer,
            start_new_session=True)
        self._reader = threading.Thread(target=lambda: None)
        self._reader.start()


@pytest.fixture(name="mute")
def fixture_mute(workspace, peer, pipe):
    listen = workspace.path("mute.sock")
    deferd = Mute(listen, peer.address, pipe)
    deferd.spawn(deferd.argv())
    wait_until(lambda: "ready" in pipe.drain(), what="it is ready")
    deferd.address = type(peer.address).parse(listen)
    try:
        yield deferd
    finally:
        deferd._child.kill()
        deferd._child.wait()


def test_reader_that_hangs_stalls_nothing(mute, peer, pipe):
    """A full pipe: requests go on; when it is read again, the log says how much is missing."""
    pipe.fill()
    for number in range(100):
        serve(mute, peer, f"/{number:03}" + "x" * 1000)
    pipe.read = b""

    def told():
        return re.search(r"(\d+) line\(s\) of this log were dropped", pipe.drain())

    dropped = int(wait_until(told, what="how many were dropped")[1])
    lines = [line for line in pipe.drain().splitlines() if line != "#"]
    requests = [line for line in lines if "request=" in line]
    assert dropped > 0
    assert len(requests) + dropped == 100
    assert all(line.endswith("pid=-") for line in requests), "no line is torn"
    serve(mute, peer, "/after")
    wait_until(lambda: "/after" in pipe.drain(), what="the log goes on")


def test_end_does_not_wait_for_a_reader_that_hangs(mute, peer, pipe):
    serve(mute, peer)
    pipe.fill()
    mute.signal(signal.SIGTERM)
    assert mute._child.wait(5) == 0


def test_standard_error_stays_as_it_was_for_others(mute, peer, pipe):
    serve(mute, peer)
    assert os.get_blocking(pipe.writer)


def test_standard_error_that_is_a_socket(workspace, peer):
    """As under systemd: it cannot be opened anew."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        deferd = Deferd(workspace.path("x.sock"), peer.address, keepalive="no")
        child = subprocess.Popen(deferd.argv(), stderr=theirs, stdin=subprocess.DEVNULL,
                                 start_new_session=True)
        try:
            ours.settimeout(5)
            said = b""
            while b"ready" not in said:
                said += ours.recv(65536)
        finally:
            child.terminate()
            assert child.wait(5) == 0


# --- JSON ----------------------------------------------------------------------------------------


def objects_of(lines):
    return [json.loads(line) for line in lines]


def test_json_is_an_object_a_line(start_master, workspace, peer):
    path = workspace.path("error.log")
    master = start_json(start_master, workspace, peer, path)
    with FcgiClient(master.address) as client:
        client.send_request("POST", '/"\\\n\xe4')
        peer.accept().close()
        assert client.read_response().status == 502
    wait_until(lambda: any("request=" in line for line in lines_of(path)), what="the request")
    found = objects_of(lines_of(path))
    for entry in found:
        assert set(entry) - {"request"} == {"time", "level", "pid", "message"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", entry["time"])
        assert entry["level"] in ("alert", "error", "warning", "notice", "debug")
    cause = next(entry for entry in found if entry["level"] == "error")
    assert cause["request"] == 1
    assert cause["message"].startswith("upstream unix:")
    request = next(entry for entry in found if entry["message"].startswith("request=1 "))
    assert request["request"] == 1
    assert 'uri="/\\x22\\x5C\\x0A\\xE4"' in request["message"]
    pids = {entry["pid"] for entry in found}
    assert pids == {master.pid, *master.worker_pids()}


def start_json(start_master, workspace, peer, path):
    """The harness waits for a line on standard error: it is reloaded into JSON."""
    master = start_master(peer)
    master.options.update({"log_format": "json", "error_log": path})
    move_log(master, path)
    return master


def move_log(master, path):
    """Reloads, and waits until the old worker is gone, by what the new log says."""
    master.write_file()
    before = master.worker_pids()
    count = len(lines_of(path))
    master.signal(signal.SIGHUP)
    wait_until(lambda: any("works now" in line for line in lines_of(path)[count:]), 10,
               "the new worker's line")
    wait_until(lambda: not set(before) & set(master.worker_pids()), 10, "the old worker's end")


def test_log_follows_the_configuration(start_master, workspace, peer):
    """File, level and form are in effect after a reload, in master and worker."""
    first, second = workspace.path("first.log"), workspace.path("second.log")
    master = start_json(start_master, workspace, peer, first)
    master.options.update({"log_format": "text", "error_log": second, "log_level": "debug"})
    move_log(master, second)
    count = len(lines_of(first))
    serve(master, peer)
    wait_until(lambda: any("request=" in line for line in lines_of(second)), what="the request")
    assert any("DEBUG" in line for line in lines_of(second))
    assert len(lines_of(first)) == count


def test_log_that_cannot_be_opened_is_refused_on_reload(start_master, peer):
    master = start_master(peer)
    master.options["error_log"] = "/no/such/directory/error.log"
    master.write_file()
    assert "error_log = /no/such/directory/error.log: No such file" in master.reload_fails()
    serve(master, peer)


# --- syslog --------------------------------------------------------------------------------------


@pytest.fixture(name="syslog")
def fixture_syslog(workspace):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(workspace.path("syslog"))
        sock.settimeout(5)
        yield sock


def hear(sock, what):
    """All datagrams up to the one that has `what`."""
    heard = []
    while not heard or what not in heard[-1]:
        heard.append(sock.recv(65536).decode("utf-8"))
    return heard


SYSLOG = re.compile(r"<(\d+)>([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (\S+)\[(\d+)\]: (.*)", re.S)


@pytest.mark.parametrize("form", ["text", "json"])
def test_syslog(start_master, workspace, peer, syslog, form):
    master = start_master(peer)
    master.options.update({
        "error_log": "syslog", "syslog.socket": workspace.path("syslog"),
        "syslog.facility": "local3", "syslog.ident": "shop", "log_format": form})
    master.write_file()
    master.signal(signal.SIGHUP)
    heard = hear(syslog, "works now")
    with FcgiClient(master.address) as client:
        client.send_request("POST", "/broken")
        peer.accept().close()
        assert client.read_response().status == 502
    heard += hear(syslog, "request=")
    parsed = [SYSLOG.fullmatch(line) for line in heard]
    assert all(parsed)
    assert {match[3] for match in parsed} == {"shop"}
    assert {int(match[1]) >> 3 for match in parsed} == {19}
    severities = {int(match[1]) & 7: match[5] for match in parsed}
    assert {3, 5} <= set(severities)
    error = severities[3]
    if form == "json":
        assert json.loads(error)["level"] == "error"
    else:
        assert error.startswith("ERROR: request ")


def test_syslog_daemon_that_hangs_stalls_nothing(start_master, workspace, peer, syslog):
    master = start_master(peer)
    master.options.update({"error_log": "syslog", "syslog.socket": workspace.path("syslog")})
    master.write_file()
    master.signal(signal.SIGHUP)
    hear(syslog, "works now")
    for number in range(300):
        serve(master, peer, f"/{number:03}" + "x" * 1000)
    heard = "".join(hear(syslog, "of this log were dropped"))
    dropped = int(re.search(r"(\d+) line\(s\) of this log were dropped", heard)[1])
    assert len(re.findall("request=", heard)) + dropped == 300
    assert dropped > 0


def test_syslog_daemon_may_be_started_again(start_master, workspace, peer, syslog):
    master = start_master(peer)
    master.options.update({"error_log": "syslog", "syslog.socket": workspace.path("syslog")})
    master.write_file()
    master.signal(signal.SIGHUP)
    hear(syslog, "works now")
    syslog.close()
    os.unlink(workspace.path("syslog"))
    serve(master, peer, "/lost")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(workspace.path("syslog"))
        sock.settimeout(5)
        serve(master, peer, "/heard")
        assert "/heard" in "".join(hear(sock, "/heard"))


# --- a disk that is full -------------------------------------------------------------------------


class Disk:
    """A file system of 64 KiB."""

    def __init__(self, directory):
        self.directory = directory
        self._filler = self.path("filler")

    def path(self, name):
        return os.path.join(self.directory, name)

    def fill(self):
        """Leaves no room on it but what files have in blocks of their own."""
        with open(self._filler, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"#" * 4096)

    def make_room(self):
        os.remove(self._filler)


@pytest.fixture(name="disk")
def fixture_disk(workspace):
    directory = workspace.make_directory("disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "deferd-disk", directory],
                             capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"needs to mount: {mounted.stderr.strip()}")
    workspace.callback(lambda: subprocess.run(["umount", directory], check=True))
    return Disk(directory)


# In the access log, and in the error log.
REQUEST_LINE = r'(?:- - - |)\[[^"]*"(?:GET )?(/[^"]*)" [^"]*pid=-(?: tasks="-")?'


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
@pytest.mark.parametrize("full", ["access log", "error log", "both"])
def test_full_disk_stalls_nothing_and_what_is_lost_is_said(start_master, workspace, peer, disk,
                                                           full):
    error = workspace.path("error.log") if full == "access log" else disk.path("error.log")
    access = None if full == "error log" else disk.path("access.log")
    log = access or error
    master = start_master(peer, pool={"access.log": access})
    master.options["error_log"] = error
    move_log(master, error)
    serve(master, peer, "/before")
    wait_until(lambda: any("/before" in line for line in lines_of(log)))
    disk.fill()
    for number in range(100):
        serve(master, peer, f"/full/{number}")
    disk.make_room()
    serve(master, peer, "/room")
    what = "the access log" if access else "this log"

    def told():
        return re.findall(rf"WARNING: .*?(\d+) line\(s\) of {what} were dropped", "\n".join(
            lines_of(error)))

    dropped, = map(int, wait_until(told, what="how many were dropped"))
    lines = lines_of(log)
    whole = [uri[1] for line in lines if (uri := re.fullmatch(REQUEST_LINE, line))]
    assert dropped > 0
    assert len(whole) + dropped == 102
    assert (whole[0], whole[-1]) == ("/before", "/room"), "a line in pieces spoils no other"
    assert master.quit() == 0


# --- the slow log --------------------------------------------------------------------------------

SLOW = re.compile(
    r'^\[\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d\.\d{3}\] pool=(?P<pool>\S+) request=(?P<request>\d+)'
    r' pid=(?P<pid>\S+) method=(?P<method>\S+) uri="(?P<uri>[^"]*)"'
    r' deferred_ms=(?P<deferred>\d+\.\d{3}) task=(?P<task>\d+/\d+) name="(?P<name>[^"]*)"'
    r" task_ms=(?P<age>-|\d+) done=(?P<done>\d+) failed=(?P<failed>\d+) skipped=(?P<skipped>\d+)$"
)


@pytest.fixture(name="slow")
def fixture_slow(workspace):
    return workspace.path("slow.log")


@pytest.fixture(name="start_slow")
def fixture_start_slow(start_deferd, peer, slow):
    def start(timeout="100ms", **options):
        return start_deferd(peer, arguments=["--slowlog", slow, "--defer-slowlog-timeout", timeout],
                            **options)

    return start


def defer(deferd, peer, uri="/slow", tasks=("a", "b", "c")):
    with FcgiClient(deferd.address) as client:
        client.send_request(uri=uri)
        connection = peer.accept_request()
        connection.answer_and_defer(pid=1234, tasks=tasks)
        assert client.read_response().complete
    return connection


def test_slow_phase_names_its_task_once(start_slow, peer, slow):
    deferd = start_slow()
    connection = defer(deferd, peer, "/slow?x=\"y")
    connection.report({"event": "start", "task": 0}, {"event": "done", "task": 0, "ms": 1},
                      {"event": "start", "task": 1})
    entry = SLOW.match(wait_for_lines(slow)[0])
    assert (entry["pool"], entry["pid"], entry["method"]) == ("www", "1234", "GET")
    assert entry["uri"] == "/slow?x=\\x22y"
    assert (entry["task"], entry["name"]) == ("2/3", "b")
    assert (entry["done"], entry["failed"], entry["skipped"]) == ("1", "0", "0")
    assert 100 <= float(entry["deferred"]) < 5000
    assert 0 <= int(entry["age"]) <= float(entry["deferred"]) + 2, "the loop's clock is coarser"
    assert connection.silent(0.3)
    connection.report({"event": "done", "task": 1, "ms": 400}, {"event": "start", "task": 2})
    connection.finish_tasks(3)
    request = deferd.wait_for_request('/slow?x="y')
    assert request.number == int(entry["request"])
    assert len(lines_of(slow)) == 1


def test_quick_phase_leaves_no_entry(start_slow, peer, slow):
    deferd = start_slow("500ms")
    quick = defer(deferd, peer, "/quick")
    slow_one = defer(deferd, peer, "/slow")
    quick.finish_tasks(3)
    deferd.wait_for_request("/quick")
    entry = SLOW.match(wait_for_lines(slow)[0])
    assert entry["uri"] == "/slow"
    slow_one.finish_tasks(3)
    deferd.wait_for_request("/slow")
    assert len(lines_of(slow)) == 1


def test_phase_without_a_running_task(start_slow, peer, slow):
    connection = defer(start_slow(), peer, tasks=())
    entry = SLOW.match(wait_for_lines(slow)[0])
    assert (entry["task"], entry["name"], entry["age"]) == ("0/0", "-", "-")
    connection.finish_tasks(0)


def test_each_of_many_slow_phases_has_its_entry(start_slow, peer, slow):
    """In the order in which they began; others end meanwhile."""
    deferd = start_slow("300ms", max_workers=40)
    connections = [defer(deferd, peer, f"/{number}") for number in range(40)]
    for connection in connections[::3]:
        connection.finish_tasks(3)
    deferd.wait_for_requests(14)
    ended = {request.uri for request in deferd.requests}
    uris = [SLOW.match(line)["uri"] for line in wait_for_lines(slow, 26)]
    for connection in connections[1::3] + connections[2::3]:
        connection.finish_tasks(3)
    deferd.wait_for_requests(40)
    uris = [SLOW.match(line)["uri"] for line in lines_of(slow)]
    assert uris == sorted(set(uris), key=lambda uri: int(uri[1:]))
    assert {f"/{number}" for number in range(40)} - ended <= set(uris)


def test_hostile_task_name_cannot_break_the_entry(start_slow, peer, slow):
    connection = defer(start_slow(), peer, tasks=['"\n[x] pool=y\x1b', "z" * 5000])
    connection.report({"event": "start", "task": 0})
    lines = wait_for_lines(slow)
    assert len(lines) == 1
    assert SLOW.match(lines[0])["name"] == "\\x22\\x0A[x] pool=y\\x1B"
    connection.finish_tasks(2)


def test_php_task_that_takes_long_is_named(start_deferd, shared_fpm, workspace, slow, gate, script):
    deferd = start_deferd(shared_fpm, arguments=["--slowlog", slow, "--defer-slowlog-timeout",
                                                 "50ms"])
    with FcgiClient(deferd.address) as client:
        client.request(uri="/t", script=script("tasks.php"),
                       params={"QUERY_STRING": f"tasks=ok,gate&gate={gate.path}"
                                               f"&marks={workspace.path('marks')}"})
    entry = SLOW.match(wait_for_lines(slow)[0])
    assert (entry["task"], entry["name"]) == ("2/2", "gate 1")
    assert int(entry["pid"]) in shared_fpm.workers()
    gate.open()
    assert deferd.wait_for_request("/t").outcome == "completed"


# --- USR1 ----------------------------------------------------------------------------------------


def test_all_logs_are_made_again(start_deferd, peer, workspace):
    paths = {name: workspace.path(name) for name in ("error.log", "access.log", "slow.log")}
    deferd = Deferd(workspace.path("x.sock"), peer.address, keepalive="no", arguments=[
        "--error-log", paths["error.log"], "--access-log", paths["access.log"],
        "--slowlog", paths["slow.log"], "--defer-slowlog-timeout", "1ms", "--log-level", "debug"])
    deferd.spawn(deferd.argv())
    try:
        wait_until(lambda: any("ready" in line for line in lines_of(paths["error.log"])),
                   what="it is ready")
        deferd.address = type(peer.address).parse(workspace.path("x.sock"))
        before = defer(deferd, peer, "/before")
        wait_for_lines(paths["slow.log"])
        before.finish_tasks(3)
        wait_for_lines(paths["access.log"])
        for path in paths.values():
            os.rename(path, path + ".1")
        deferd.signal(signal.SIGUSR1)
        wait_until(lambda: all(map(os.path.exists, paths.values())), what="new files")
        after = defer(deferd, peer, "/after")
        assert "/after" in wait_for_lines(paths["slow.log"])[0]
        after.finish_tasks(3)
        assert "/after" in wait_for_lines(paths["access.log"])[0]
        wait_until(lambda: lines_of(paths["error.log"]), what="the error log")
        assert "/before" not in "".join(map("".join, map(lines_of, paths.values())))
        assert deferd.stop() == 0
    finally:
        deferd.end()
