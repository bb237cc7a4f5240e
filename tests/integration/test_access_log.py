"""The access log: a line for each request in the format that is asked for, and nothing secret."""

import os
import re
import signal
import threading
import time

import pytest
from harness import FcgiClient, wait_until

DEFAULT = re.compile(
    r'^(?P<remote>\S+) - (?P<user>\S+) \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]'
    r' "(?P<method>\S+) (?P<uri>[^"]*)" (?P<status>\S+) request=(?P<request>\d+)'
    r" class=(?P<klass>\S+) queue_ms=(?P<queue>\d+\.\d{3}) response_ms=(?P<response>\d+\.\d{3})"
    r" deferred_ms=(?P<deferred>-|\d+\.\d{3}) done=(?P<done>\d+) failed=(?P<failed>\d+)"
    r" skipped=(?P<skipped>\d+) outcome=(?P<outcome>\w+) pid=(?P<pid>-|\d+)"
    r' tasks="(?P<tasks>[^"]*)"$'
)


@pytest.fixture(name="log")
def fixture_log(workspace):
    return workspace.path("access.log")


def lines_of(path):
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


def wait_for_lines(path, count=1, timeout=5.0):
    wait_until(lambda: len(lines_of(path)) >= count, timeout, f"{count} lines in {path}")
    return lines_of(path)


@pytest.fixture(name="start")
def fixture_start(start_deferd, peer, log):
    """start(format): a deferd that logs so."""

    def start(pattern=None, **options):
        arguments = ["--access-log", log]
        if pattern is not None:
            arguments += ["--access-format", pattern]
        return start_deferd(peer, arguments=[*arguments, *options.pop("arguments", ())], **options)

    return start


def serve(deferd, peer, uri="/", method="GET", params=None, headers=b"X-A: b\r\n", body=b""):
    with FcgiClient(deferd.address) as client:
        client.send_request(method, uri, body, params=params)
        peer.accept_request().answer(b"hello\n", headers)
        assert client.read_response().complete


def logged(start, peer, log, pattern, **request):
    serve(start(pattern), peer, **request)
    return wait_for_lines(log)[0]


def test_default_line(start, peer, log):
    deferd = start()
    before = time.time()
    serve(deferd, peer, "/a/b?c=d", "POST", {"REMOTE_ADDR": "192.0.2.1", "REMOTE_USER": "me"})
    line = DEFAULT.match(wait_for_lines(log)[0])
    assert (line["remote"], line["user"]) == ("192.0.2.1", "me")
    stamp = time.mktime(time.strptime(line["time"][:-6], "%d/%b/%Y:%H:%M:%S"))
    assert before - 1 <= stamp <= time.time()
    assert (line["method"], line["uri"], line["status"]) == ("POST", "/a/b?c=d", "200")
    assert (line["klass"], line["outcome"], line["deferred"]) == ("default", "answered", "-")
    assert float(line["queue"]) <= float(line["response"]) < 5000


def test_error_log_has_no_line_then(start, peer, log):
    deferd = start()
    serve(deferd, peer)
    wait_for_lines(log)
    deferd.stop()
    assert deferd.requests == []
    assert len(lines_of(log)) == 1


def test_deferred_part_and_what_went_with_the_params(start, peer, log):
    deferd = start()
    with FcgiClient(deferd.address) as client:
        client.send_request("GET", "/x?y", params={"REMOTE_ADDR": "::1", "REMOTE_USER": "ü"})
        connection = peer.accept_request()
        connection.answer_and_defer(pid=1234, tasks=["a", 'b"', "c"])
        assert client.read_response().complete
        assert connection.silent(0.1)
        assert lines_of(log) == [], "the line comes at the end"
        connection.report({"event": "done", "task": 0}, {"event": "fail", "task": 1, "error": "E"},
                          {"event": "skip", "task": 2, "why": ""}, {"event": "end"})
        connection.end()
    line = DEFAULT.match(wait_for_lines(log)[0])
    assert (line["remote"], line["user"], line["uri"]) == ("::1", "\\xFC", "/x?y")
    assert (line["done"], line["failed"], line["skipped"]) == ("1", "1", "1")
    assert (line["outcome"], line["pid"]) == ("failed", "1234")
    assert line["tasks"] == "a, b\\x22, c"
    assert float(line["deferred"]) >= 100 > float(line["response"])


ITEMS = {
    "%%": "%",
    "%m": "PATCH",
    "%r": "/p/q",
    "%Q": "?",
    "%q": "a=b&c",
    "%r%Q%q": "/p/q?a=b&c",
    "%s": "418",
    "%n": "www",
    "%l": "5",
    "%f": "/srv/index.php",
    "%R": "192.0.2.7",
    "%u": "someone",
    "%p": "-",
    "%{tasks}x": "-",
    "%{HTTP_USER_AGENT}e": "curl/1\\x20x",
    '"%{HTTP_USER_AGENT}e"': '"curl/1 x"',
    "%{NOTHING}e": "-",
    "%{X-Two}o": "second",
    "%{x-two}o": "second",
    "%{X-None}o": "-",
    "%{Status}o": "418\\x20Teapot",
    "%{X-Two}o %{NOTHING}e %m": "second - PATCH",
    "%{class}x": "default",
    "%{outcome}x": "answered",
    "%{deferred}x": "-",
    "%{done}x/%{failed}x/%{skipped}x": "0/0/0",
    "%{tries}x": "0",
    "plain text; with \"quotes\" and \\": 'plain text; with "quotes" and \\',
}


@pytest.mark.parametrize("pattern", ITEMS)
@pytest.mark.parametrize("deferring", [False, True])
def test_item(start, peer, log, pattern, deferring):
    """Also for a deferred phase, when the params are gone by the time of the line."""
    deferd = start(pattern)
    params = {"REMOTE_ADDR": "192.0.2.7", "REMOTE_USER": "someone", "HTTP_USER_AGENT": "curl/1 x"}
    headers = b"Status: 418 Teapot\r\nX-Two: first\r\nX-Two:  second \r\n"
    with FcgiClient(deferd.address) as client:
        client.send_request("PATCH", "/p/q?a=b&c", b"hello", params=params)
        connection = peer.accept_request()
        if deferring:
            connection.stdout(headers + b"\r\nbody")
            connection.marker()
            connection.report({"event": "begin", "pid": 77, "tasks": []}, {"event": "end"})
            connection.end()
        else:
            connection.answer(b"body", headers)
        assert client.read_response().complete
    expected = ITEMS[pattern]
    if deferring:
        expected = {"%p": "77", "%{outcome}x": "completed"}.get(pattern, expected)
    line = wait_for_lines(log)[0]
    if deferring and pattern == "%{deferred}x":
        assert re.fullmatch(r"\d+\.\d{3}", line)
    else:
        assert line == expected


@pytest.mark.parametrize(("pattern", "regex"), [
    ("%d", r"0\.\d{3}"),
    ("%{seconds}d", r"0\.\d{3}"),
    ("%{milliseconds}d", r"\d{1,4}\.\d{3}"),
    ("%{miliseconds}d", r"\d{1,4}\.\d{3}"),
    ("%{mili}d", r"\d{1,4}\.\d{3}"),
    ("%{milli}d", r"\d{1,4}\.\d{3}"),
    ("%{microseconds}d", r"\d{2,7}"),
    ("%{micro}d", r"\d{2,7}"),
    ("%{queue}x", r"\d{1,3}\.\d{3}"),
    ("%{response}x", r"\d{1,4}\.\d{3}"),
    ("%{id}x", r"\d+"),
    ("%t", r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}"),
    ("%{%Y-%m-%dT%H:%M:%S%z}t", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"),
    ("%{%s}T", r"\d{10}"),
])
def test_durations_and_times(start, peer, log, pattern, regex):
    assert re.fullmatch(regex, logged(start, peer, log, pattern))


def test_begin_and_end_of_a_long_request(start, peer, log):
    deferd = start("%{%s}t %{%s}T %{response}x")
    with FcgiClient(deferd.address) as client:
        before = time.time()
        client.send_request(uri="/")
        connection = peer.accept_request()
        accepted = time.time()
        time.sleep(1.1)
        after = time.time()
        connection.answer()
        assert client.read_response().complete
    begin, end, took = wait_for_lines(log)[0].split()
    assert int(before) <= int(begin) <= int(accepted)
    assert int(after) <= int(end) <= time.time()
    assert float(took) >= 1100


def test_upstream_and_class_and_queue(start, peer, log):
    deferd = start("%{upstream}x %{class}x", arguments=["--class", "slow"])
    serve(deferd, peer, params={"DEFERD_CLASS": "slow"})
    assert wait_for_lines(log)[0] == f"unix:{peer.address.path} slow"


def test_request_that_never_ran(start_deferd, workspace, log):
    deferd = start_deferd(workspace.path("nobody.sock"), arguments=[
        "--access-log", log, "--access-format", "%s %{outcome}x %{upstream}x %{X}o %{A}e"])
    with FcgiClient(deferd.address) as client:
        assert client.request(params={"A": "b"}).status == 502
    assert wait_for_lines(log)[0] == "502 upstream_failed - - b"


def test_rejected_request(start, log):
    deferd = start('%R %{%Y}t %m "%r" %s %{class}x %{queue}x %d %{outcome}x %f', max_params=1024)
    with FcgiClient(deferd.address) as client:
        assert client.request(params={"X": "y" * 5000}).status == 431
    assert re.fullmatch(r'- \d{4} - "-" 431 - 0\.000 0\.000 rejected -', wait_for_lines(log)[0])


HOSTILE = ['"quoted"', "back\\slash", "line\nfeed\r\n", "nul\0", "\x1b[31m", "\xe4\xff", "%s%n%d",
           "a b", "x" * 5000, "\x01" * 5000, '" 200 outcome=forged']


@pytest.mark.parametrize("deferring", [False, True])
@pytest.mark.parametrize("value", HOSTILE, ids=[ascii(value[:12]) for value in HOSTILE])
def test_peers_cannot_forge_lines(start, peer, log, value, deferring):
    deferd = start('%u "%{HTTP_X}e" %m "%r%Q%q" "%{X-Y}o" %{X-Y}o %s %{outcome}x %{id}x')
    header = value.replace("\n", "").replace("\r", "").encode("latin-1")[:4000]
    with FcgiClient(deferd.address) as client:
        client.send_request(value, f"/{value}?{value}",
                            params={"REMOTE_USER": value, "HTTP_X": value})
        connection = peer.accept_request()
        connection.stdout(b"X-Y: " + header + b"\r\n\r\nbody")
        if deferring:
            connection.marker()
            connection.report({"event": "begin", "pid": 77, "tasks": []}, {"event": "end"})
        connection.end()
        assert client.read_response().complete
    lines = wait_for_lines(log)
    assert len(lines) == 1
    assert re.fullmatch(r'\S+ "[^"]*" \S+ "[^"]*" "[^"]*" \S+ 200 (answered|completed) \d+', lines[0])
    assert len(lines[0]) < 4096


def test_secrets_are_in_no_log(workspace, start_deferd, peer, log):
    """At the debug level, with all that may be logged."""
    deferd = start_deferd(peer, log_level="debug", arguments=[
        "--access-log", log, "--access-format",
        "%R %u %t %m %r %q %s %f %{HTTP_HOST}e %{Content-Type}o %{id}x", "--slowlog",
        workspace.path("slow.log"), "--defer-slowlog-timeout", "1ms"])
    with FcgiClient(deferd.address) as client:
        client.send_request(params={"HTTP_AUTHORIZATION": "Basic c2VjcmV0", "HTTP_HOST": "host",
                                    "HTTP_COOKIE": "session=c2VjcmV0"})
        connection = peer.accept_request()
        token = connection.request.token
        connection.stdout(b"Set-Cookie: id=c2VjcmV0\r\nContent-Type: text/plain\r\n\r\nbody")
        connection.marker()
        connection.report({"event": "begin", "pid": 77, "tasks": ["t"]})
        assert client.read_response().complete
        wait_for_lines(workspace.path("slow.log"))
        connection.finish_tasks()
    line = wait_for_lines(log)[0]
    assert "host text/plain" in line
    everything = line + workspace.read("slow.log") + "\n".join(deferd.lines)
    assert "c2VjcmV0" not in everything
    assert token not in everything


def test_lines_are_whole_under_load(start_site, shared_fpm, log):
    """Many requests at once, on kept connections: a line each, none torn."""
    site = start_site(shared_fpm, arguments=["--access-log", log])
    threads = [threading.Thread(target=lambda: [site.nginx.get("/hello.php") for _ in range(50)])
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = wait_for_lines(log, 400)
    assert len(lines) == 400
    assert all(DEFAULT.match(line) for line in lines)
    assert {DEFAULT.match(line)["remote"] for line in lines} == {"127.0.0.1"}
    assert len({DEFAULT.match(line)["request"] for line in lines}) == 400


def test_moved_file_is_made_again(start, peer, log):
    deferd = start("%r")
    serve(deferd, peer, "/1")
    wait_for_lines(log)
    os.rename(log, log + ".1")
    deferd.signal(signal.SIGUSR1)
    wait_until(lambda: os.path.exists(log), what="a new file")
    serve(deferd, peer, "/2")
    assert wait_for_lines(log) == ["/2"]
    assert lines_of(log + ".1") == ["/1"]


def test_file_that_cannot_be_opened_stops_the_start(workspace, peer):
    from harness import Deferd

    deferd = Deferd(workspace.path("x.sock"), peer.address,
                    arguments=["--access-log", workspace.path("no", "such", "directory")])
    deferd.expect_end()
    deferd.spawn(deferd.argv())
    try:
        assert deferd.wait() == 1
    finally:
        deferd.end()
    assert deferd.has_line(r"ALERT: \[www\] access.log = .*No such file")


def test_reader_that_hangs_stalls_nothing_and_is_told_of_the_rest(workspace, start_deferd, peer):
    """A full pipe: requests go on; lines that find no room are dropped, and counted."""
    fifo = workspace.path("fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        deferd = start_deferd(peer, arguments=["--access-log", fifo, "--access-format",
                                               "%{X}e" + "y" * 900])
        for number in range(200):
            serve(deferd, peer, params={"X": f"<{number}>"})
        read = b""

        def drain():
            nonlocal read
            try:
                read += os.read(reader, 1 << 20)
            except BlockingIOError:
                pass
            return deferd.has_line(r"line\(s\) of the access log were dropped")

        wait_until(drain, what="the reader is told")
        match = deferd.wait_for_line(r"\[www\] (\d+) line\(s\) of the access log were dropped")
    finally:
        os.close(reader)
    lines = read.decode("ascii").split("\n")
    assert lines.pop() == ""
    assert len(lines) + int(match[1]) == 200
    assert int(match[1]) > 0
    assert [line for line in lines if not re.fullmatch(r"<\d+>y{900}", line)] == []


def test_reload_goes_on_in_another_file(start_master, peer, workspace, log):
    other = workspace.path("other.log")
    master = start_master(peer, pool={"access.log": log, "access.format": "old %r"})
    serve(master, peer, "/1")
    assert wait_for_lines(log) == ["old /1"]
    master.pools["www"]["access.log"] = other
    master.pools["www"]["access.format"] = "new %r"
    worker = master.reload()
    master.wait_for_only(worker)
    serve(master, peer, "/2")
    assert wait_for_lines(other) == ["new /2"]
    assert lines_of(log) == ["old /1"]
    master.pools["www"]["access.log"] = None
    worker = master.reload()
    master.wait_for_only(worker)
    serve(master, peer, "/3")
    master.wait_for_request("/3")
    assert lines_of(other) == ["new /2"]


def test_request_that_drains_is_logged_where_it_began(start_master, peer, workspace, log):
    other = workspace.path("other.log")
    master = start_master(peer, pool={"access.log": log, "access.format": "%r"})
    with FcgiClient(master.address) as client:
        client.send_request(uri="/old")
        connection = peer.accept_request()
        master.pools["www"]["access.log"] = other
        worker = master.reload()
        connection.answer()
        assert client.read_response().complete
    master.wait_for_only(worker)
    assert lines_of(log) == ["/old"]
    assert lines_of(other) == []


def test_reload_with_a_log_that_cannot_be_opened_changes_nothing(start_master, peer, log):
    master = start_master(peer, pool={"access.log": log, "access.format": "%r"})
    master.pools["www"]["access.log"] = "/no/such/directory/access.log"
    master.write_file()
    assert "access.log = /no/such/directory/access.log" in master.reload_fails()
    serve(master, peer, "/1")
    assert wait_for_lines(log) == ["/1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_moved_file_is_made_again_after_privileges_were_dropped(start_master, peer, workspace):
    """The worker could make no file there; the master can, and gives it to the worker."""
    os.chmod(workspace.make_directory("logs"), 0o755)
    log = workspace.path("logs", "access.log")
    slow = workspace.path("logs", "slow.log")
    master = start_master(peer, options={"user": "nobody", "group": "nogroup"}, pool={
        "access.log": log, "access.format": "%r", "slowlog": slow, "defer_slowlog_timeout": "1ms",
        "listen.mode": "0666"})
    os.chmod(peer.address.path, 0o666)
    assert os.stat(log).st_uid == 65534
    os.rename(log, log + ".1")
    os.rename(slow, slow + ".1")
    master.signal(signal.SIGUSR1)
    wait_until(lambda: os.path.exists(log) and os.path.exists(slow), what="new files")
    assert os.stat(log).st_uid == 65534
    assert os.stat(slow).st_mode & 0o777 == 0o640

    def new_file_is_used():
        serve(master, peer, "/2")
        return lines_of(log)

    wait_until(new_file_is_used, what="the worker goes on in the new file")
    assert not master.has_line("cannot open")
    with FcgiClient(master.address) as client:
        client.send_request(uri="/slow")
        connection = peer.accept_request()
        connection.answer_and_defer()
        assert client.read_response().complete
        wait_for_lines(slow)
        connection.finish_tasks()
