"""The master and its workers: start, death, reload, upgrade, end."""

import contextlib
import os
import pathlib
import pwd
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
from harness import Background, FcgiClient, Master, control, wait_until
from harness import proc
from harness.address import Address
from harness.client import encode_request, request_params
from harness.daemon import find_binary, sanitized
from harness.waiting import DeadlinePassed

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def ask(master, uri="/", address=None):
    """A whole request on a connection of its own."""
    with FcgiClient(address or master.address) as client:
        return client.request(uri=uri)


def answers(peer, body=b"hello\n", count=1):
    """The peer answers the next requests, in the background."""
    def handle(connection):
        connection.read_request()
        connection.answer(body)
        connection.wait_closed()

    return Background(peer.serve, handle, count)


def assert_works(master, peer, address=None):
    serving = answers(peer)
    assert ask(master, address=address).body == b"hello\n"
    serving.result()


def refuses(address):
    try:
        Address.parse(address).connect(1.0).close()
        return False
    except OSError:
        return True


@pytest.fixture(name="master")
def fixture_master(start_master, peer):
    return start_master(peer)


@pytest.fixture(name="own_binary")
def fixture_own_binary(workspace):
    """A copy of deferd that a test may replace."""
    path = workspace.path("deferd")
    shutil.copy2(find_binary(), path)
    return path


def replace(path, content=None):
    """Puts another file in a binary's place, as a package manager does: by rename."""
    fresh = path + ".new"
    if content is None:
        shutil.copy2(find_binary(), fresh)
    else:
        pathlib.Path(fresh).write_text(content, encoding="utf-8")
        os.chmod(fresh, 0o755)
    os.rename(fresh, path)


# --- start ---------------------------------------------------------------------------------------


def test_master_and_one_worker_serve(master, peer):
    assert master.worker_pids() == [master.worker_pid]
    assert_works(master, peer)
    assert pathlib.Path(master.pid_file).read_text(encoding="utf-8") == f"{master.pid}\n"


def test_titles_name_the_roles(master):
    def title(pid):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()

    assert title(master.pid).startswith("deferd: master process")
    assert title(master.worker_pid) == "deferd: worker process"


def test_worker_has_nothing_open_of_its_master(master):
    """Nothing but the listening sockets, its channel, its log and its own loop."""
    links = proc.fds(master.worker_pid)
    assert not [link for link in links if link.endswith(".pid") or "memfd" in link], links


def run(*arguments, **options):
    return subprocess.run([find_binary(), *map(str, arguments)], capture_output=True, text=True,
                          timeout=20, check=False, **options)


class Daemon:
    """A master in the background; ends with the block."""

    def __init__(self, workspace, peer, options=None, pool=None, name="background"):
        pool = {"upstream.keepalive": "no", **(pool or {})}
        self.master = Master(workspace, peer, name=name, pool=pool)
        self.log = os.path.join(self.master.directory, "error.log")
        self.master.options.update({"daemonize": "yes", "error_log": self.log, **(options or {})})
        self.pid = None

    def start(self, file=None, cwd=None):
        self.master.write_file()
        result = run("-c", file or self.master.file, cwd=cwd)
        if result.returncode == 0:
            self.pid = int(pathlib.Path(self.master.pid_file).read_text(encoding="utf-8"))
        return result

    def lines(self):
        return pathlib.Path(self.log).read_text(encoding="utf-8").splitlines()

    def wait_for_line(self, pattern):
        return wait_until(lambda: [ln for ln in self.lines() if re.search(pattern, ln)],
                          10, f"{pattern!r} in {self.log}")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            wait_until(lambda: not proc.alive(self.pid), 15, "the background master's end")


@pytest.fixture(name="daemon")
def fixture_daemon(workspace, peer):
    with Daemon(workspace, peer) as daemon:
        yield daemon


def test_daemon_serves_when_the_starting_process_returns(daemon, peer):
    result = daemon.start()
    assert (result.returncode, result.stderr) == (0, "")
    serving = answers(peer)
    assert ask(daemon.master).body == b"hello\n"
    serving.result()


def test_daemon_is_detached(daemon):
    assert daemon.start().returncode == 0
    fields = pathlib.Path(f"/proc/{daemon.pid}/stat").read_text(encoding="utf-8")
    session = int(fields.rpartition(")")[2].split()[3])
    assert session not in (daemon.pid, os.getsid(0)), "a session leader could get a terminal"
    assert os.readlink(f"/proc/{daemon.pid}/cwd") == "/"
    for fd in "012":
        assert os.readlink(f"/proc/{daemon.pid}/fd/{fd}") == "/dev/null"


def test_daemon_keeps_nothing_of_who_started_it(daemon, peer):
    """Or a script that waits for the end of its pipe, or for its lock, waits for good."""
    reader, writer = os.pipe()
    daemon.master.write_file()
    result = run("-c", daemon.master.file, pass_fds=(writer,))
    os.close(writer)
    assert result.returncode == 0, result.stderr
    daemon.pid = int(pathlib.Path(daemon.master.pid_file).read_text(encoding="utf-8"))
    os.set_blocking(reader, False)
    assert os.read(reader, 1) == b"", "the end, and not that there is nothing yet"
    os.close(reader)
    assert_works(daemon.master, peer)


def test_daemon_reloads_a_file_that_was_given_relative(daemon):
    directory, name = os.path.split(daemon.master.file)
    assert daemon.start(name, cwd=directory).returncode == 0
    os.kill(daemon.pid, signal.SIGHUP)
    wait_until(lambda: sum("works now" in line for line in daemon.lines()) == 2)


def test_daemon_upgrades_with_a_file_that_was_given_relative(daemon, peer):
    directory, name = os.path.split(daemon.master.file)
    assert daemon.start(name, cwd=directory).returncode == 0
    os.kill(daemon.pid, signal.SIGUSR2)
    daemon.wait_for_line("upgrade: master .* goes on")
    serving = answers(peer)
    assert ask(daemon.master).body == b"hello\n"
    serving.result()
    assert proc.alive(daemon.pid)


def test_starting_process_tells_why_it_did_not_start(daemon, workspace):
    blocker = workspace.write("blocker", "no socket")
    daemon.master.pools["www"]["listen"] = blocker
    result = daemon.start()
    assert result.returncode == 1
    assert blocker in result.stderr and "is no socket" in result.stderr
    assert not os.path.exists(daemon.master.pid_file)


def test_second_start_is_refused_and_harms_nothing(daemon, peer):
    assert daemon.start().returncode == 0
    again = run("-c", daemon.master.file)
    assert again.returncode == 1
    assert f"runs already, pid {daemon.pid}" in again.stderr
    serving = answers(peer)
    assert ask(daemon.master).body == b"hello\n"
    serving.result()
    assert pathlib.Path(daemon.master.pid_file).read_text(encoding="utf-8") == f"{daemon.pid}\n"


def test_foreground_start_fails_when_the_worker_does(workspace, peer):
    master = Master(workspace, peer)
    master.options["user"] = "nobody-of-this-name"
    master.write_file()
    result = run("-c", master.file)
    assert result.returncode == 1
    assert "no such user" in result.stderr
    assert not os.path.exists(master.pid_file)
    assert not os.path.exists(master.address.path)


# --- a worker that dies --------------------------------------------------------------------------


def test_dead_worker_is_replaced_and_connections_wait(master, peer):
    old = master.kill_worker()
    for _ in range(20):  # whoever comes meanwhile waits
        assert_works(master, peer)
    assert master.wait_for_worker(old) != old
    assert not any("refused" in line for line in master.lines)


def test_worker_that_is_killed_leaves_the_callbacks_to_finish(start_master, start_fpm, workspace,
                                                             script, gate):
    fpm = start_fpm(workers=4)
    master = start_master(fpm, max_workers=4)
    uri = f"/kinds.php?kind=plain&gate={gate.path}&marks={workspace.path('marks')}"
    for _ in range(3):
        with FcgiClient(master.address) as client:
            assert client.request(uri=uri, script=script("kinds.php")).complete
    old = master.kill_worker()
    master.wait_for_worker(old)
    with FcgiClient(master.address) as client:
        assert client.request(uri="/hello.php", script=script("hello.php")).body == b"hello\n"
    gate.open()
    wait_until(lambda: len(workspace.lines("marks")) == 3, what="three callbacks' marks")


def test_worker_that_keeps_dying_is_replaced_later_and_later(master, peer):
    for count in range(1, 5):
        old = master.kill_worker()
        master.wait_for_worker(old)
        assert count == 1 or master.has_line("workers keep dying; the next one in 100 ms")
    delays = [int(match[1]) for line in master.lines
              if (match := re.search(r"the next one in (\d+) ms", line))]
    assert delays == [100, 200, 400]
    assert_works(master, peer)


def test_worker_that_dies_before_it_is_ready_leaves_the_sockets(daemon, peer):
    """Its replacements fail for a while: connections wait for the one that does not."""
    assert daemon.start().returncode == 0
    [worker] = proc.children(daemon.pid)
    path, daemon.log = daemon.log, daemon.log + ".1"
    os.rename(path, daemon.log)
    os.mkdir(path)  # which no worker can open as its log
    os.kill(worker, signal.SIGKILL)
    daemon.wait_for_line("ended with status 1: error_log = ")
    serving = answers(peer)
    asking = Background(ask, daemon.master)
    daemon.wait_for_line("the next one in 200 ms")
    os.rmdir(path)
    assert asking.result().body == b"hello\n"
    serving.result()


def test_failed_reload_does_not_take_listeners_from_the_next_worker(master, peer, workspace):
    blocker = workspace.write("blocker", "no socket")
    master.write_file(master.text().replace(str(master.address), blocker))
    assert "is no socket" in master.reload_fails()
    old = master.kill_worker()
    master.wait_for_worker(old)
    assert_works(master, peer)


def test_reload_that_fails_while_no_worker_is_there_still_ends_with_one(master, peer):
    for _ in range(4):  # the next one is a while away
        old = master.kill_worker()
        master.wait_for_line(rf"worker {old} was ended by signal 9")
        if not master.has_line("the next one in 400 ms"):
            master.wait_for_worker(old)
    master.write_file("[global]\nno_such = 1\n")
    master.reload_fails()
    master.wait_for_worker(old)
    assert_works(master, peer)


def test_worker_that_is_told_to_end_is_replaced_before_it_has_ended(master, peer):
    with FcgiClient(master.address) as client:
        client.send_request(uri="/long")
        connection = peer.accept_request()
        old = master.kill_worker(signal.SIGQUIT)
        assert master.wait_for_worker(old) != old
        assert old in master.worker_pids()
        connection.answer(b"done\n")
        assert client.read_response().body == b"done\n"
    assert_works(master, peer)
    master.wait_for_only(master.worker_pid)


# --- hosts' names ---------------------------------------------------------------------------------

HOSTS = """\
mount --make-rprivate / && mount --bind "$1/hosts" /etc/hosts &&
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf && shift && exec "$@"
"""


class Hosts:
    """A master whose resolver knows what this says, and no more."""

    def __init__(self, workspace, master):
        self.directory = workspace.make_directory("resolver")
        self.knows("127.0.0.1 php.example web.example")
        self._write("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
        plain = master.argv
        master.argv = lambda: ["unshare", "--mount", "sh", "-c", HOSTS, "sh", self.directory,
                               *plain()]

    def _write(self, name, text):
        pathlib.Path(self.directory, name).write_text(text, encoding="utf-8")

    def knows(self, line):
        self._write("hosts", line + "\n")


@pytest.fixture(name="named")
def fixture_named(workspace, start_peer, own_binary):
    """A master whose pool listens on, and goes to, names; its peer, and the names."""
    peer = start_peer("127.0.0.1:0")
    master = Master(workspace, f"php.example:{peer.address.port}", binary=own_binary,
                    pool={"upstream.keepalive": "no", "listen": "web.example:0"})
    hosts = Hosts(workspace, master)
    with master:
        yield master, peer, hosts


def address_in_log(master):
    """Where the last worker listens."""
    found = [match for line in list(master.lines)
             if (match := re.search(r"listening on web\.example:(\d+)|listening on (\S+:\d+)",
                                    line))]
    return Address.parse("127.0.0.1:" + (found[-1][1] or found[-1][2].rpartition(":")[2]))


@needs_root
@pytest.mark.parametrize("by", ["death", "upgrade", "death after an upgrade"])
def test_worker_is_replaced_while_no_name_can_be_looked_up(named, own_binary, by):
    master, peer, hosts = named
    if "after" in by:
        replace(own_binary)
        master.upgrade()
    hosts.knows("")
    old = master.worker_pid
    if by == "upgrade":
        assert 'host that is known; "web.example"' in master.upgrade_fails()
    master.kill_worker()
    master.wait_for_worker(old)
    assert_works(master, peer, address_in_log(master))
    [pool] = control(master.control, "pools")
    assert pool["listen"].startswith("web.example:")
    assert pool["upstreams"][0]["address"] == f"php.example:{peer.address.port}"


@needs_root
def test_reload_looks_names_up_again(named, start_peer):
    master, peer, hosts = named
    assert_works(master, peer, address_in_log(master))
    other = start_peer(f"127.0.0.2:{peer.address.port}")
    hosts.knows("127.0.0.1 web.example\n127.0.0.2 php.example")
    master.reload()
    assert_works(master, other, address_in_log(master))


# --- a worker that hangs -------------------------------------------------------------------------


def test_worker_that_hangs_is_killed_and_replaced(start_master, peer):
    master = start_master(peer, options={"hang_timeout": "400ms"})
    old = master.worker_pid
    os.kill(old, signal.SIGSTOP)
    master.wait_for_line(rf"worker {old} hangs: it has given no sign of life for \d+ ms; it is "
                         "killed")
    master.wait_for_line(rf"worker {old} was ended by signal 9: it has given no sign of life")
    master.wait_for_worker(old)
    assert_works(master, peer)


def drains_for_good(master, peer, client):
    """A reload, after which the old worker has a request and is stopped; its pid."""
    client.send_request(uri="/long")
    peer.accept_request()
    old = master.worker_pid
    master.reload()
    os.kill(old, signal.SIGSTOP)
    return old


def test_old_worker_that_hangs_is_killed_and_nobody_else(start_master, peer):
    master = start_master(peer, options={"hang_timeout": "400ms"})
    with FcgiClient(master.address) as client:
        old = drains_for_good(master, peer, client)
        master.wait_for_only(master.worker_pid)
    master.wait_for_line(rf"worker {old} hangs: it has given no sign of life")
    assert not master.has_line(rf"worker {master.worker_pid} hangs")
    assert_works(master, peer)


@pytest.mark.parametrize("upgrade", [False, True], ids=["reload", "upgrade"])
def test_old_worker_is_bounded_by_shutdown_timeout(start_master, peer, own_binary, upgrade):
    """It should have cut its request by itself; the next master knows of the bound too."""
    options = {"hang_timeout": "0", "shutdown_timeout": "500ms"}
    master = start_master(peer, options=options, binary=own_binary)
    with FcgiClient(master.address) as client:
        old = drains_for_good(master, peer, client)
        if upgrade:
            master.upgrade()
        master.wait_for_only(master.worker_pid)
    master.wait_for_line(rf"worker {old} hangs: it has not ended in time; it is killed")
    assert_works(master, peer)


def test_worker_does_not_hang_because_the_machine_was_stopped(start_master, peer):
    master = start_master(peer, options={"hang_timeout": "1s"})
    worker = master.worker_pid
    os.kill(worker, signal.SIGSTOP)
    time.sleep(0.4)  # the time that passes is what is looked at: it was asked, and is silent
    os.kill(master.pid, signal.SIGSTOP)
    time.sleep(1.2)
    for pid in (master.pid, worker):
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(DeadlinePassed):
        master.wait_for_line("hangs", 1.2)
    assert master.worker_pids() == [worker]
    assert_works(master, peer)


# --- reload --------------------------------------------------------------------------------------


def test_reload_replaces_the_worker(master, peer):
    old = master.worker_pid
    fresh = master.reload()
    assert fresh != old
    master.wait_for_only(fresh)
    assert_works(master, peer)


def test_reload_lets_running_and_deferred_work_end(master, peer):
    with FcgiClient(master.address) as running, FcgiClient(master.address) as deferred:
        running.send_request(uri="/running")
        first = peer.accept_request()
        deferred.send_request(uri="/deferred")
        second = peer.accept_request()
        second.answer_and_defer()
        assert deferred.read_response().complete
        old = master.worker_pid
        fresh = master.reload()
        assert_works(master, peer)
        assert sorted(master.worker_pids()) == sorted([old, fresh])
        first.answer(b"done\n")
        assert running.read_response().body == b"done\n"
        second.finish_tasks()
    master.wait_for_only(fresh)
    assert master.wait_for_request("/deferred").outcome == "completed"


def test_reload_listeners_come_and_go(master, peer, workspace):
    first, second = str(master.address), workspace.path("second.sock")
    master.pools["more"] = {**master.pools["www"], "listen": second}
    master.wait_for_only(master.reload())
    assert_works(master, peer, first)
    assert_works(master, peer, second)
    del master.pools["more"]
    master.wait_for_only(master.reload())
    assert not os.path.exists(second)
    assert_works(master, peer, first)


@pytest.mark.parametrize("what", ["address", "control"])
def test_reload_makes_a_socket_again_whose_file_was_deleted(master, peer, what):
    path = str(getattr(master, what)).removeprefix("unix:")
    master.options["control.mode"] = master.pools["www"]["listen.mode"] = "0604"
    with FcgiClient(master.address) as kept, FcgiClient(master.address) as running:
        kept_request(kept, peer, "/1")
        running.send_request(uri="/running")
        connection = peer.accept_request()
        os.unlink(path)
        fresh = master.reload()
        master.wait_for_line(rf"unix:{path}: somebody has deleted the file; it is made again")
        kept_request(kept, peer, "/2")
        connection.answer(b"done\n")
        assert running.read_response().body == b"done\n"
    master.wait_for_only(fresh)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o604
    before = len(master.lines)
    for _ in range(2):  # it is like any other now
        assert_works(master, peer)
        assert control(master.control, "status")["pid"] == master.worker_pid
        master.wait_for_only(master.reload())
    assert not [line for line in master.lines[before:] if "deleted" in line]
    assert master.quit() == 0
    assert not os.path.exists(path)


def test_reload_that_fails_makes_no_deleted_socket_again(master, peer):
    os.unlink(master.address.path)
    master.options["error_log"] = "/nonexistent/error.log"
    master.write_file()
    master.reload_fails()
    assert not os.path.exists(master.address.path)
    master.wait_for_worker(master.kill_worker())  # which needs the old one
    master.options["error_log"] = None
    master.wait_for_only(master.reload())
    assert_works(master, peer)


def test_broken_configuration_changes_nothing(master, peer):
    old = master.worker_pid
    master.write_file(master.text().replace("upstream.max_workers = 4", "upstream.max_workers = x"))
    why = master.reload_fails()
    assert "upstream.max_workers = x: allowed is a number" in why
    assert master.worker_pids() == [old]
    assert_works(master, peer)
    assert master.reload() != old


def test_reload_that_cannot_bind_changes_nothing(master, peer, workspace):
    old = master.worker_pid
    fresh = workspace.path("fresh.sock")
    blocker = workspace.write("blocker", "no socket")
    master.pools["fresh"] = {**master.pools["www"], "listen": fresh}
    master.pools["more"] = {**master.pools["www"], "listen": blocker}
    master.write_file()
    assert "is no socket" in master.reload_fails()
    assert master.worker_pids() == [old]
    assert not os.path.exists(fresh), "a socket that was made for nothing"
    assert_works(master, peer)


def test_reload_whose_worker_fails_changes_nothing(master, peer):
    old = master.worker_pid
    master.options["error_log"] = "/nonexistent/error.log"
    master.write_file()
    assert "/nonexistent/error.log" in master.reload_fails()
    master.wait_for_only(old)
    assert_works(master, peer)


def test_signals_during_a_reload_are_not_lost(master, peer):
    before = sum("works now" in line for line in master.lines)
    old = master.worker_pid
    os.kill(master.pid, signal.SIGSTOP)  # so that both are there at once
    os.kill(master.pid, signal.SIGHUP)
    os.kill(master.pid, signal.SIGUSR2)
    os.kill(master.pid, signal.SIGCONT)
    master.wait_for_line("upgrade: master .* goes on", 10)
    wait_until(lambda: sum("works now" in line for line in master.lines) == before + 2)
    assert old not in [master.worker_pid]
    assert_works(master, peer)


def kept_request(client, peer, uri):
    """A request on a connection that is kept, answered at once."""
    client.send_request(uri=uri, keep=True)
    peer.accept_request().answer()
    assert client.read_response().complete


def test_kept_connections_of_the_web_server_survive_a_reload(master, peer):
    """Closed by the old worker, they would fail what is on its way to them."""
    with FcgiClient(master.address) as used, FcgiClient(master.address) as fresh:
        kept_request(used, peer, "/1")
        for _ in range(3):
            master.wait_for_only(master.reload())
            kept_request(used, peer, "/2")
            kept_request(fresh, peer, "/3")
        master.signal(signal.SIGQUIT)
        assert used.read_record() is None
        assert fresh.read_record() is None
    assert master.wait() == 0


def test_kept_connection_moves_on_when_its_request_has_ended(master, peer):
    with FcgiClient(master.address) as client:
        client.send_request(uri="/long", keep=True)
        connection = peer.accept_request()
        fresh = master.reload()
        connection.answer(b"first\n")
        assert client.read_response().body == b"first\n"
        client.send_request(uri="/next", keep=True)
        peer.accept_request().answer(b"second\n")
        assert client.read_response().body == b"second\n"
        master.wait_for_only(fresh)
        kept_request(client, peer, "/last")


def test_request_that_is_half_here_ends_where_it_began(master, peer):
    data = encode_request(request_params(uri="/half"), keep=True)
    with FcgiClient(master.address) as client:
        client.send(data[:50])
        client.wait_read()
        old = master.worker_pid
        fresh = master.reload()
        client.send(data[50:])
        peer.accept_request().answer()
        assert client.read_response().complete
        master.wait_for_line(rf"worker {old} ended with status 0")
        kept_request(client, peer, "/after")
        master.wait_for_only(fresh)


@pytest.mark.time_limit(60)
def test_many_kept_connections_survive_a_reload(start_master, peer):
    """More than can be on their way at once."""
    master = start_master(peer)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(FcgiClient(master.address)) for _ in range(700)]
        kept_request(clients[-1], peer, "/last")  # all were accepted
        master.wait_for_only(master.reload())
        for client in clients:
            kept_request(client, peer, "/after")


def test_kept_connections_of_a_pool_that_goes_are_closed(master, peer, workspace):
    second = workspace.path("second.sock")
    master.pools["more"] = {**master.pools["www"], "listen": second}
    master.wait_for_only(master.reload())
    with FcgiClient(second) as client:
        kept_request(client, peer, "/1")
        del master.pools["more"]
        master.wait_for_only(master.reload())
        assert client.read_record() is None


def test_shutdown_timeout_cuts_and_says_what(start_master, peer):
    master = start_master(peer, options={"shutdown_timeout": "100ms"})
    with FcgiClient(master.address) as running, FcgiClient(master.address) as deferred:
        running.send_request(uri="/running")
        peer.accept_request()
        deferred.send_request(uri="/deferred")
        peer.accept_request().answer_and_defer(tasks=("mail", "index"))
        assert deferred.read_response().complete
        fresh = master.reload()
        master.wait_for_line(r"cut in its deferred phase; 2 not done: mail, index")
        master.wait_for_line(r'cut while running: "/running"')
        master.wait_for_only(fresh)


def test_logs_are_reopened(peer, workspace):
    log = workspace.path("error.log")
    with Daemon(workspace, peer, {"error_log": log}) as background:
        background.log = log
        assert background.start().returncode == 0
        os.rename(log, log + ".1")
        os.kill(background.pid, signal.SIGUSR1)
        wait_until(lambda: os.path.exists(log), what="the new log")
        serving = answers(peer)
        assert ask(background.master, "/after").body == b"hello\n"
        serving.result()
        background.wait_for_line('uri="/after"')
        assert "/after" not in pathlib.Path(log + ".1").read_text(encoding="utf-8")


def test_reload_moves_the_log(workspace, peer):
    with Daemon(workspace, peer) as daemon:
        assert daemon.start().returncode == 0
        first, daemon.log = daemon.log, workspace.path("second.log")
        daemon.master.options["error_log"] = daemon.log
        daemon.master.write_file()
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: os.path.exists(daemon.log), what="the second log")
        daemon.wait_for_line("works now")
        assert "works now" in pathlib.Path(first).read_text(encoding="utf-8")


def open_in(pid):
    """What is open in a process, without the numbers that differ from one to the next."""
    return [re.sub(r"\[\d+\]", "", link) for link in proc.fds(pid)]


def test_reloads_and_upgrades_leave_nothing_behind(start_master, peer, own_binary, workspace):
    """No descriptor, no process, no file; a reload that fails neither."""
    master = start_master(peer, binary=own_binary, pool={"upstream.keepalive": "no"},
                          options={"control.readonly": workspace.path("readonly.sock")})
    master.wait_for_only(master.reload())
    before = open_in(master.pid), open_in(master.worker_pid), sorted(os.listdir(master.directory))
    for _ in range(5):
        master.wait_for_only(master.reload())
        master.write_file("[global\n")
        master.reload_fails()
        master.write_file()
    for _ in range(3):
        replace(own_binary)
        master.wait_for_only(master.upgrade())
        master.wait_for_only(master.reload())
    assert open_in(master.pid) == before[0]
    assert open_in(master.worker_pid) == before[1]
    assert sorted(os.listdir(master.directory)) == before[2]
    assert_works(master, peer)


# --- upgrade -------------------------------------------------------------------------------------


def test_upgrade_keeps_the_process_and_serves(start_master, peer, own_binary):
    master = start_master(peer, binary=own_binary)
    old = master.worker_pid
    inode = os.stat(f"/proc/{master.pid}/exe").st_ino
    replace(own_binary)
    fresh = master.upgrade()
    master.wait_for_only(fresh)
    assert master.running and old != fresh
    assert os.stat(f"/proc/{master.pid}/exe").st_ino != inode
    assert os.stat(f"/proc/{fresh}/exe").st_ino == os.stat(own_binary).st_ino
    assert_works(master, peer)
    assert pathlib.Path(master.pid_file).read_text(encoding="utf-8") == f"{master.pid}\n"
    # The new one does all that the old one did.
    killed = master.kill_worker()
    master.wait_for_worker(killed)
    master.wait_for_only(master.reload())
    replace(own_binary)
    master.wait_for_only(master.upgrade())
    assert_works(master, peer)
    assert master.quit() == 0
    assert not os.path.exists(master.pid_file)
    assert not os.path.exists(master.address.path)


def test_pid_file_stays_where_it_is_until_the_end(start_master, peer, own_binary, workspace):
    """And the file of somebody else that the configuration names meanwhile stays his."""
    master = start_master(peer, binary=own_binary)
    first = master.options["pid"]
    master.options["pid"] = workspace.write("other.pid", "1\n")
    master.wait_for_only(master.reload())
    replace(own_binary)
    master.wait_for_only(master.upgrade())
    assert pathlib.Path(first).read_text(encoding="utf-8") == f"{master.pid}\n"
    assert master.quit() == 0
    assert not os.path.exists(first)
    assert workspace.lines("other.pid") == ["1"]


def test_upgrade_waits_for_the_old_worker(start_master, peer, own_binary):
    master = start_master(peer, binary=own_binary)
    with FcgiClient(master.address) as client:
        client.send_request(uri="/long")
        connection = peer.accept_request()
        old = master.worker_pid
        replace(own_binary)
        fresh = master.upgrade()
        assert sorted(master.worker_pids()) == sorted([old, fresh])
        connection.answer(b"done\n")
        assert client.read_response().body == b"done\n"
    master.wait_for_only(fresh)
    master.wait_for_line(rf"worker {old} ended with status 0")


@pytest.mark.parametrize(
    ("content", "why"),
    [("#!/bin/sh\nexit 7\n", "ended with status 7"),
     ("no program\n", "Exec format error"),
     ("#!/bin/sh\nkill -SEGV $$\n", "ended by signal 11")],
    ids=["fails", "no program", "crashes"],
)
def test_broken_binary_changes_nothing(start_master, peer, own_binary, content, why):
    master = start_master(peer, binary=own_binary)
    old = master.worker_pid
    replace(own_binary, content)
    assert why in master.upgrade_fails()
    master.wait_for_only(old)
    assert_works(master, peer)
    assert master.reload() != old, "a reload needs no file"
    assert_works(master, peer)


def test_end_does_not_wait_for_a_worker_that_never_gets_ready(start_master, peer, own_binary):
    master = start_master(peer, binary=own_binary, options={"hang_timeout": "400ms"})
    master.expect_end()
    replace(own_binary, "#!/bin/sh\nexec sleep 100\n")
    master.signal(signal.SIGUSR2)
    master.wait_for_line("upgrade: begins")
    wait_until(lambda: len(master.worker_pids()) == 2)
    assert master.quit() == 1
    assert master.has_line(r"worker \d+ hangs: it has given no sign of life")


def test_upgrade_does_not_read_the_file_twice(start_master, peer, own_binary):
    """What the new worker was tested with is what the new master has."""
    master = start_master(peer, binary=own_binary)
    replace(own_binary, f"""#!/bin/sh
if [ "$1" = --worker ]; then echo broken > {master.file}; fi
exec {find_binary()} "$@"
""")
    master.upgrade()
    assert_works(master, peer)
    assert pathlib.Path(master.file).read_text(encoding="utf-8") == "broken\n"
    assert "neither a section" in master.reload_fails()
    assert_works(master, peer)


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM, signal.SIGINT])
def test_idle_master_ends_at_once(master, number):
    master.signal(number)
    assert master.wait(5.0) == 0
    assert not os.path.exists(master.pid_file)
    assert not os.path.exists(master.address.path)
    assert not os.path.exists(master.control)


def test_quit_waits_for_what_runs(master, peer):
    with FcgiClient(master.address) as client:
        client.send_request()
        connection = peer.accept_request()
        master.signal(signal.SIGQUIT)
        wait_until(lambda: refuses(master.address), what="no new connections")
        connection.answer(b"done\n")
        assert client.read_response().body == b"done\n"
    assert master.wait() == 0


def test_terminate_timeout_cuts_and_says_what(start_master, peer):
    master = start_master(peer, options={"terminate_timeout": "100ms"})
    with FcgiClient(master.address) as client:
        client.send_request(uri="/deferred")
        peer.accept_request().answer_and_defer(tasks=("mail",))
        assert client.read_response().complete
        assert master.terminate() == 0
    assert master.has_line("cut in its deferred phase; 1 not done: mail")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_second_signal_ends_it_at_once(start_master, peer, second):
    master = start_master(peer, options={"terminate_timeout": "1h"})
    master.expect_end()
    with FcgiClient(master.address) as client:
        client.send_request()
        peer.accept_request()
        worker = master.worker_pid
        master.signal(signal.SIGTERM)
        wait_until(lambda: refuses(master.address), what="no new connections")
        assert proc.alive(worker)
        master.signal(second)
        assert master.wait(5.0) == 1
        assert not proc.alive(worker)


def test_worker_that_hangs_does_not_hold_the_end(start_master, peer):
    master = start_master(peer, options={"terminate_timeout": "10ms"})
    master.expect_end()
    os.kill(master.worker_pid, signal.SIGSTOP)
    master.signal(signal.SIGTERM)
    assert master.wait(10.0) == 1
    assert master.has_line("hangs: it has not ended in time; it is killed")
    assert not os.path.exists(master.pid_file)


def test_interrupt_from_a_terminal_is_one_signal(master, peer):
    """It reaches all processes at once, the worker too."""
    with FcgiClient(master.address) as client:
        client.send_request()
        connection = peer.accept_request()
        os.killpg(os.getpgid(master.pid), signal.SIGINT)
        wait_until(lambda: refuses(master.address), what="no new connections")
        connection.answer(b"done\n")
        assert client.read_response().body == b"done\n"
    assert master.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2], ids=["HUP", "USR2"])
def test_masters_signals_end_no_worker(master, peer, number):
    """As pkill sends them, or a terminal that closes: to all processes of the name or group."""
    with FcgiClient(master.address) as client:
        client.send_request(uri="/long")
        connection = peer.accept_request()
        old = master.worker_pid
        before = len(master.lines)
        os.kill(old, number)
        master.signal(number)
        master.wait_for_worker(old)
        connection.answer(b"done\n")
        assert client.read_response().body == b"done\n"
    master.wait_for_line(rf"worker {old} ended with status 0", after=before)


def test_worker_without_its_master_ends_in_order(master, peer):
    with FcgiClient(master.address) as client:
        client.send_request()
        connection = peer.accept_request()
        worker = master.worker_pid
        master.expect_end()
        master.kill()
        master_gone = "the master is gone"
        wait_until(lambda: master.has_line(master_gone), what=master_gone)
        connection.answer(b"done\n")
        assert client.read_response().body == b"done\n"
    wait_until(lambda: not proc.alive(worker))


def test_start_after_a_killed_master_takes_the_sockets_again(workspace, peer):
    first = Master(workspace, peer, pool={"upstream.keepalive": "no"})
    first.expect_end()
    with first:
        first.kill()
    with Master(workspace, peer, pool={"upstream.keepalive": "no"}) as second:
        assert_works(second, peer)


# --- privileges ----------------------------------------------------------------------------------


@needs_root
def test_worker_drops_privileges_and_keeps_its_logs(peer, workspace):
    nobody = pwd.getpwnam("nobody")
    os.chmod(workspace.directory, 0o755)
    log = workspace.path("error.log")
    with Daemon(workspace, peer, {"user": "nobody", "error_log": log}) as background:
        background.log = log
        assert background.start().returncode == 0
        [worker] = proc.children(background.pid)
        status = pathlib.Path(f"/proc/{worker}/status").read_text(encoding="utf-8")
        ids = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()
               if line.startswith(("Uid", "Gid", "Groups"))}
        assert set(ids["Uid"]) == {str(nobody.pw_uid)}
        assert set(ids["Gid"]) == {str(nobody.pw_gid)}
        assert "0" not in ids["Groups"]
        os.rename(log, log + ".1")
        os.kill(background.pid, signal.SIGUSR1)
        wait_until(lambda: os.path.exists(log))
        os.chmod(str(peer.address), 0o666)
        serving = answers(peer)
        assert ask(background.master, "/after").body == b"hello\n"
        serving.result()
        background.wait_for_line('uri="/after"')
        os.kill(background.pid, signal.SIGHUP)
        wait_until(lambda: any("works now" in line for line in background.lines()))


def ids_of(pid):
    """The real ids and the other groups of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = {line.split(":")[0]: [int(word) for word in line.split()[1:]]
             for line in status.splitlines() if line.startswith(("Uid", "Gid", "Groups"))}
    return found["Uid"][0], found["Gid"][0], found["Groups"]


def as_somebody(master, *how):
    """The master starts as setpriv says."""
    plain = master.argv
    master.argv = lambda: ["setpriv", *how, "--", *plain()]
    os.chmod(master.directory, 0o777)
    return master


@needs_root
@pytest.mark.parametrize(("options", "ids"), [
    ({"group": "nogroup"}, (0, pwd.getpwnam("nobody").pw_gid, [pwd.getpwnam("nobody").pw_gid])),
    ({"user": "nobody", "group": "root"}, (pwd.getpwnam("nobody").pw_uid, 0, [0])),
    ({}, (0, 0, [4, 24])),
], ids=["group alone", "both", "none"])
def test_worker_is_in_no_other_groups_than_it_is_told(workspace, peer, options, ids):
    master = as_somebody(Master(workspace, peer, options=options,
                                pool={"upstream.keepalive": "no"}), "--groups", "4,24")
    with master:
        assert ids_of(master.pid)[2] == [4, 24]
        assert ids_of(master.worker_pid) == ids


@needs_root
def test_user_and_group_without_root_are_ignored_with_a_warning(workspace, peer, own_binary):
    nobody = pwd.getpwnam("nobody")
    master = as_somebody(
        Master(workspace, peer, binary=own_binary, pool={"upstream.keepalive": "no"},
               options={"user": "root", "group": "root"}),
        "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
    with master:
        assert master.has_line("WARNING: user = root is ignored: deferd is not started by root")
        assert master.has_line("WARNING: group = root is ignored: deferd is not started by root")
        assert ids_of(master.worker_pid) == (nobody.pw_uid, nobody.pw_gid, [])
        before = len(master.lines)
        master.options.update({"user": "nobody", "group": "nogroup"})
        master.reload()
        assert not [line for line in master.lines[before:] if "ignored" in line]


@needs_root
def test_listen_owner_and_mode(start_master, peer):
    master = start_master(peer, pool={"listen.owner": "nobody", "listen.mode": "0640"})
    found = os.stat(master.address.path)
    assert found.st_uid == pwd.getpwnam("nobody").pw_uid
    assert stat.S_IMODE(found.st_mode) == 0o640


def rights_of(path):
    found = os.stat(path)
    return pwd.getpwuid(found.st_uid).pw_name, stat.S_IMODE(found.st_mode)


@needs_root
def test_reload_changes_the_rights_of_a_socket_that_stays(start_master, peer, own_binary):
    me = pwd.getpwuid(os.geteuid()).pw_name
    master = start_master(peer, binary=own_binary, pool={"listen.mode": "0640"})
    inode = os.stat(master.address.path).st_ino
    assert rights_of(master.address.path) == (me, 0o640)
    master.pools["www"].update({"listen.owner": "nobody", "listen.mode": "0602"})
    master.options["control.mode"] = "0666"
    master.reload()
    wait_until(lambda: rights_of(master.address.path) == ("nobody", 0o602))
    assert rights_of(master.control) == (me, 0o666)
    replace(own_binary)
    master.pools["www"]["listen.owner"] = None
    master.write_file()
    master.upgrade()
    wait_until(lambda: rights_of(master.address.path) == (me, 0o602))
    master.pools["www"]["listen.mode"] = "0600"
    master.reload()
    wait_until(lambda: rights_of(master.address.path) == (me, 0o600))
    assert os.stat(master.address.path).st_ino == inode
    assert_works(master, peer)


def test_rights_of_a_file_that_took_the_sockets_place_stay(start_master, peer, workspace):
    master = start_master(peer, pool={"listen.mode": "0640"})
    other = workspace.write("other", "")
    os.chmod(other, 0o604)
    os.unlink(master.address.path)
    os.symlink(other, master.address.path)
    master.pools["www"]["listen.mode"] = "0666"
    master.options["control.mode"] = "0600"
    master.reload()
    wait_until(lambda: stat.S_IMODE(os.stat(master.control).st_mode) == 0o600)
    assert stat.S_IMODE(os.stat(other).st_mode) == 0o604


def test_reload_that_fails_changes_no_rights(start_master, peer):
    master = start_master(peer, pool={"listen.mode": "0640"})
    master.pools["www"]["listen.mode"] = "0666"
    master.pools["other"] = {**master.pools["www"], "listen": "/no/such/directory/a.sock"}
    master.write_file()
    master.reload_fails()
    assert stat.S_IMODE(os.stat(master.address.path).st_mode) == 0o640


# --- systemd -------------------------------------------------------------------------------------

ACTIVATE = """\
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_socket_comes_from_systemd(workspace, peer):
    """Started as systemd does it; the socket stays systemd's over reload and end."""
    master = Master(workspace, peer, pool={"upstream.keepalive": "no"})
    plain = master.argv
    master.argv = lambda: [sys.executable, "-c", ACTIVATE, str(master.address), *plain()]
    with master:
        assert master.has_line("the socket comes from systemd")
        assert_works(master, peer)
        inode = os.stat(master.address.path).st_ino
        master.wait_for_only(master.reload())
        assert_works(master, peer)
        master.upgrade()
        assert_works(master, peer)
        assert master.quit() == 0
        assert os.stat(master.address.path).st_ino == inode


class Notify:
    """What systemd hears."""

    def __init__(self, path):
        self.messages = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        with contextlib.suppress(OSError):
            while data := self._socket.recv(4096):
                self.messages.append(data.decode())

    def wait_for(self, text, after=0):
        wait_until(lambda: any(text in message for message in self.messages[after:]), 10,
                   f"{text!r} in {self.messages}")

    def close(self):
        self._socket.close()


@pytest.fixture(name="notified")
def fixture_notified(workspace, peer):
    """A master that talks to a systemd, and that."""
    path = workspace.path("notify.sock")
    notify = Notify(path)
    master = Master(workspace, peer, pool={"upstream.keepalive": "no"})
    master.environment = {"NOTIFY_SOCKET": path}
    yield master, notify
    notify.close()


def test_systemd_is_told(notified):
    master, notify = notified
    with master:
        notify.wait_for("READY=1")
        before = len(notify.messages)
        master.reload()
        notify.wait_for("RELOADING=1", before)
        assert "MONOTONIC_USEC=" in next(m for m in notify.messages[before:] if "RELOADING" in m)
        notify.wait_for("READY=1", before)
        before = len(notify.messages)
        master.write_file("broken\n")
        master.reload_fails()
        notify.wait_for("READY=1", before)
        before = len(notify.messages)
        master.write_file()
        master.upgrade()
        notify.wait_for("READY=1", before)
        master.quit()
        notify.wait_for("STOPPING=1")


def test_watchdog_hears_of_the_worker_alone(notified):
    master, notify = notified
    master.environment["WATCHDOG_USEC"] = "150000"
    with master:
        notify.wait_for("WATCHDOG=1")
        os.kill(master.worker_pid, signal.SIGSTOP)
        # What was on its way arrives; then nothing more, for seven times the interval.
        count = -1
        with contextlib.suppress(DeadlinePassed):
            def still():
                nonlocal count
                before, count = count, len(notify.messages)
                return before == count
            wait_until(still, 2, interval=0.35)
        assert count == len(notify.messages)
        os.kill(master.worker_pid, signal.SIGCONT)
        notify.wait_for("WATCHDOG=1", count)


# --- under load ----------------------------------------------------------------------------------


@pytest.mark.time_limit(60)
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_old_worker_gets_its_share_of_php_fpm(start_master, start_fpm, start_nginx, workspace):
    """The new one has enough to do to keep every php-fpm worker to itself, for ever."""
    fpm = start_fpm(workers=2)
    master = start_master(fpm, max_workers=2)
    nginx = start_nginx(master)
    marks = workspace.path("marks")
    wrk = Background(subprocess.run, ["wrk", "-c32", "-t1", "-d15s", "--timeout", "30s",
                                      f"{nginx.url}/load.php?marks={marks}"],
                     capture_output=True, text=True, check=True, timeout=50)
    wait_until(lambda: os.path.exists(marks), 10, "the first requests")
    for _ in range(3):
        master.wait_for_only(master.reload(), 5)
    assert not wrk.done, "the load ended before the old workers did"
    assert "Non-2xx" not in wrk.result(50).stdout


@pytest.mark.time_limit(120)
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_reloads_and_upgrades_under_load_fail_no_request(start_master, start_fpm, start_nginx,
                                                        workspace, own_binary, method):
    """20 reloads and 5 upgrades; every callback that was registered runs exactly once.

    nginx sends a GET again when its connection breaks, but no POST.
    """
    script = workspace.write("wrk.lua", f'wrk.method = "{method}"\n'
                             + ('wrk.body = "x=1"\n' if method == "POST" else ""))
    fpm = start_fpm(workers=8)
    master = start_master(fpm, max_workers=8, binary=own_binary,
                          options={"log_level": "notice"},
                          pool={"queue.timeout": "60s"})
    marks = workspace.path("marks")
    # nginx gives a request up when wrk leaves at the end; here it is to finish it.
    nginx = start_nginx(master, location="fastcgi_ignore_client_abort on;\n")
    seconds = 40 if sanitized() else 12
    wrk = Background(subprocess.run, ["wrk", "-c64", "-t2", "-s", script, f"-d{seconds}s", "--timeout",
                                      "30s", f"{nginx.url}/load.php?marks={marks}"],
                     capture_output=True, text=True, check=True, timeout=seconds + 40)
    wait_until(lambda: os.path.exists(marks), 10, "the first requests")
    for turn in range(25):
        if turn % 5 == 4:
            replace(own_binary)
            master.upgrade(30)
        else:
            master.reload(30)
    assert not wrk.done, "the load ended before the reloads did"
    output = wrk.result(seconds + 60).stdout
    assert "Non-2xx" not in output and "Socket errors" not in output, output
    master.wait_for_only(master.worker_pid, 30)
    assert master.quit(60) == 0
    words = [line.split() for line in workspace.lines("marks")]
    registered = [word[1] for word in words if word[0] == "registered"]
    ran = [word[1] for word in words if word[0] == "ran"]
    assert len(registered) > 500
    assert len(set(registered)) == len(registered)
    assert sorted(ran) == sorted(registered)
