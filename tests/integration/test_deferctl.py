"""deferctl: what it prints, how it fails, and its live view."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest
from harness import Background, deferctl, wait_until
from harness.control import find_deferctl
from harness.daemon import REPOSITORY

COMMANDS = ["status", "pools", "list", "show", "stop", "pause", "resume", "drain", "reload",
            "upgrade", "fpm-reload", "quit", "help", "top"]
UTF8 = {"LC_ALL": "C.UTF-8"}
HOSTILE = "mail\x1b[2J\x9b31m\u202e\x07\r\ntask\u2028ü"


@pytest.fixture(name="master")
def fixture_master(start_master, peer):
    return start_master(peer, max_workers=4)


@pytest.fixture(name="ctl")
def fixture_ctl(master):
    """ctl("list"): deferctl on this master."""
    return lambda *arguments, **options: deferctl("-s", master.control, *arguments, **options)


@pytest.fixture(name="phase")
def fixture_phase(master, peer, connect):
    """A deferred phase whose first task runs."""
    client = connect(master)
    client.send_request(uri="/work?\x1b[31m")
    connection = peer.accept_request()
    connection.answer_and_defer(tasks=("first", HOSTILE), pid=4242)
    assert client.read_response().complete
    connection.report({"event": "start", "task": 0},
                      {"event": "progress", "task": 0, "ratio": 0.4, "text": "two of five"})
    wait_until(lambda: b"two of five" in _raw(master))
    return connection


def _raw(master):
    return deferctl("-s", master.control, "list", "--json").stdout.encode()


def lines(result):
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


# --- tables --------------------------------------------------------------------------------------


def test_list_names_the_running_task(ctl, phase):
    head, row = lines(ctl("list"))
    assert head.split() == ["ID", "POOL", "STATE", "AGE", "CLASS", "PID", "TASK", "PROGRESS",
                            "METHOD", "URI"]
    assert re.fullmatch(r" 1  www   running +\d+ms  default  4242  1/2 first  40% two of five  "
                        r"GET +/work\?\\x1B\[31m", row)


def test_list_of_nothing_has_a_head(ctl):
    assert len(lines(ctl("list"))) == 1


def test_list_names_the_task_that_failed(ctl, phase, master):
    phase.report({"event": "fail", "task": 0, "ms": 3, "error": "Oops: no\n\x1b[1m"},
                 {"event": "start", "task": 1}, {"event": "done", "task": 1, "ms": 1},
                 {"event": "end"})
    phase.end()
    master.wait_for_request(outcome="failed")
    assert len(lines(ctl("list"))) == 1
    row = lines(ctl("list", "--failed"))[1]
    assert "  failed  " in row and "1/2 first" in row and "Oops: no\\x0A\\x1B[1m" in row


def test_show_lists_the_tasks(ctl, phase):
    text = lines(ctl("show", "1", env=UTF8))
    assert "phase       1, running" in text
    assert "worker      process 4242 at unix:" in "\n".join(text)
    assert any(re.match(r" +1  running +\d+ms +40%  first +two of five$", line) for line in text)
    assert any(line.startswith("   2  waiting ") for line in text)


def test_status_and_pools(ctl, phase):
    status = "\n".join(lines(ctl("status")))
    assert "1 of 4 busy, 1 of them deferred, 0 requests waiting" in status
    head, pool, upstream, group = lines(ctl("pools"))
    assert head.startswith("POOL")
    assert re.match(r"www +open +1/4 +0/1024 +1/4  unix:", pool)
    assert re.match(r"  upstream  up +1/4 +unix:", upstream)
    assert re.match(r"  class +1/4 +0 +default$", group)


def test_commands_that_change_say_nothing(ctl):
    for command in (["pause", "www"], ["resume", "www"], ["drain", "www"], ["resume", "www"]):
        assert lines(ctl(*command)) == []


def test_what_others_wrote_cannot_reach_the_terminal(ctl, phase):
    for locale in ("C", "C.UTF-8"):
        for command in (["list"], ["show", "1"], ["list", "--json"]):
            output = subprocess.run(
                [find_deferctl(), "-s", ctl.__closure__[0].cell_contents.control, *command],
                capture_output=True, check=True, env={**os.environ, "LC_ALL": locale}).stdout
            controls = [byte for byte in output if (byte < 32 and byte != 10) or byte == 127]
            assert not controls, output
            text = output.decode("utf-8")
            assert not any(0x80 <= ord(c) < 0xa0 or c in "\u202e\u2028" for c in text), output
    shown = ctl("show", "1", env=UTF8).stdout
    assert "mail\\x1B[2J\\u{9B}31m\\u{202E}\\x07\\x0D\\x0Atask\\u{2028}ü" in shown
    assert "task\\u{2028}\\u{FC}" in ctl("show", "1", env={"LC_ALL": "C"}).stdout


# --- JSON ----------------------------------------------------------------------------------------


def test_list_json_is_an_array_of_the_documented_objects(ctl, phase):
    result = ctl("list", "--json")
    [found] = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert list(found) == ["id", "pool", "state", "class", "pid", "method", "uri", "started",
                           "age_ms", "outcome", "tasks"]
    assert list(found["tasks"][0]) == ["name", "state", "ms", "ratio", "text", "error"]
    assert found["tasks"][1]["name"] == HOSTILE
    assert found["uri"] == "/work?\x1b[31m"


@pytest.mark.parametrize("command", [["status"], ["pools"], ["list"], ["show", "1"], ["help"],
                                     ["pause", "www"]])
def test_json_of_every_command(ctl, phase, command):
    before = ctl("--json", *command)
    after = ctl(*command, "--json")
    assert before.returncode == after.returncode == 0
    assert isinstance(json.loads(before.stdout), (dict, list))
    assert json.loads(after.stdout) is not None


def test_documented_keys_are_those_that_come(ctl, phase):
    """docs/control.md names every key, in its tables."""
    text = (REPOSITORY / "docs" / "control.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+)`", text))
    for command in (["status"], ["pools"], ["show", "1"]):
        answer = json.loads(ctl(*command, "--json").stdout)
        for found in answer if isinstance(answer, list) else [answer]:
            keys = set(found)
            for value in found.values():
                if isinstance(value, list) and value:
                    keys |= set(value[0])
            assert keys <= named, (command, keys - named)


# --- where deferd is -----------------------------------------------------------------------------


def test_socket_from_the_environment(master):
    assert deferctl("status", env={"DEFERD_CONTROL": master.control}).returncode == 0


def test_socket_from_the_configuration(master):
    assert deferctl("-c", master.file, "status").returncode == 0
    assert deferctl("--config", master.file, "status", env={"DEFERD_CONTROL": "/nowhere"}
                    ).returncode == 0


def test_option_wins_over_the_environment(master):
    result = deferctl("-s", master.control, "status", env={"DEFERD_CONTROL": "/nowhere"})
    assert result.returncode == 0


def test_default_socket_is_named():
    result = deferctl("status", env={"DEFERD_CONTROL": ""})
    if result.returncode == 3:  # no deferd runs on this machine
        assert "/run/deferd/control.sock: deferd is not there" in result.stderr
    assert "/run/deferd/control.sock" in deferctl("--help").stdout


def test_configuration_without_a_socket_is_told(workspace):
    path = workspace.write("deferd.conf", "[global]\nlog_level = notice\n")
    assert_fails(deferctl("-c", path, "status"), 3, "names no control socket")
    assert deferctl("-c", workspace.path("missing"), "status").returncode == 1


# --- failing -------------------------------------------------------------------------------------


def assert_fails(result, status, text):
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith("deferctl: ")
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


def test_failed_command(ctl):
    assert_fails(ctl("show", "7"), 1, "there is no deferred phase 7")
    assert_fails(ctl("pause", "nobody"), 1, 'there is no pool "nobody"')
    assert_fails(ctl("--json", "stop", "7"), 1, "no deferred phase 7")


@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["show"], ["show", "1", "2"], ["status", "x"], ["pause", "a b"],
    ["pause", "a\nquit"], ["pause", ""], ["pause", "x" * 2000], ["--nonsense", "status"], ["-s"],
    ["top", "--json", "-n", "1", "x"], ["top", "--json", "-n"], ["top", "--json", "-n1", "-x"],
    *(["top", "--json", "-n", count] for count in ("0", "-1", "1.5", "1x")),
    *(["top", "--json", "-n1", "-d", delay] for delay in ("0.01", "x", "1x", "nan", "86401")),
])
def test_wrong_usage(ctl, arguments):
    result = ctl(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "see deferctl --help" in result.stderr
    assert ctl("status").returncode == 0, "nothing of it reached deferd"


def test_deferd_is_not_there(workspace, master):
    assert_fails(deferctl("-s", workspace.path("none"), "status"), 3, "deferd is not there")
    master.quit()
    assert_fails(deferctl("-s", master.control, "status"), 3, "deferd is not there")
    assert_fails(deferctl("-s", "/" + "x" * 200, "status"), 3, "a socket's path")


@pytest.mark.time_limit(40)
def test_waiting_for_a_worker_is_bounded_and_waiting_for_a_command_is_not(start_master, peer, connect,
                                                                          workspace):
    """One worker hangs, one deferd takes no connection, and one has something to wait for."""
    hanging = start_master(peer, options={"hang_timeout": "0"})
    working = start_master(peer)
    client = connect(working)
    client.send_request()
    phase = peer.accept_request()
    phase.answer_and_defer()
    assert client.read_response().complete
    path = workspace.path("full.sock")
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as filler:
        full.bind(path)
        full.listen(0)
        filler.connect(path)
        drain = Background(deferctl, "-s", working.control, "drain", "www", timeout=35)
        wait_until(lambda: '"paused":true' in deferctl("-s", working.control, "pools",
                                                       "--json").stdout)
        os.kill(hanging.worker_pid, signal.SIGSTOP)
        begun = time.monotonic()
        waiting = [Background(deferctl, "-s", control, "quit", timeout=30)
                   for control in (hanging.control, path)]
        for command in waiting:
            assert_fails(command.result(30), 3, "nobody has answered within 10 s")
        assert 9 < time.monotonic() - begun < 20
    assert not drain.done
    phase.finish_tasks()
    assert drain.result().returncode == 0
    os.kill(hanging.worker_pid, signal.SIGCONT)
    assert deferctl("-s", hanging.control, "status").returncode == 0, "no quit has reached it"


def test_what_answers_is_not_deferd(workspace):
    import threading
    with socket.socket(socket.AF_UNIX) as listener:
        path = workspace.path("other.sock")
        listener.bind(path)
        listener.listen(4)
        for answer, why in ((b"HTTP/1.1 400 Bad Request\r\n\r\n", "the answer is not deferd's"),
                            (b"", "closed the connection without an answer"),
                            (b"[1]\n", "the answer is not deferd's")):
            def serve(data=answer):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(data)

            thread = threading.Thread(target=serve)
            thread.start()
            assert_fails(deferctl("-s", path, "status"), 3, why)
            thread.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_no_permission(master):
    os.chmod(master.directory, 0o755)
    result = deferctl("-s", master.control, "status", user="nobody", group="nogroup",
                      extra_groups=[])
    assert_fails(result, 4, "no permission")
    os.chmod(master.file, 0o600)
    result = deferctl("-c", master.file, "status", user="nobody", group="nogroup", extra_groups=[])
    assert_fails(result, 4, "Permission denied")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_group_of_the_socket_has_permission(start_master, peer):
    master = start_master(peer, options={"control.group": "nogroup"})
    result = deferctl("-s", master.control, "status", user="nobody", group="nogroup",
                      extra_groups=[])
    assert result.returncode == 0, result.stderr


def test_readonly_socket_denies(start_master, peer, workspace):
    path = workspace.path("readonly.sock")
    start_master(peer, options={"control.readonly": path})
    assert deferctl("-s", path, "status").returncode == 0
    assert_fails(deferctl("-s", path, "pause", "www"), 4, "not allowed on this socket")


def test_reload_tells_what_is_wrong(ctl, master):
    master.write_file(master.text() + "nonsense = 1\n")
    assert_fails(ctl("reload"), 1, "nonsense: there is no such directive")
    master.write_file()
    assert lines(ctl("reload")) == []


# --- help, manual, completion --------------------------------------------------------------------


def test_help_names_every_command(ctl):
    text = deferctl("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command}\b", text, re.MULTILINE), command
    from_deferd = [line.split()[0] for line in lines(ctl("help"))[1:]]
    assert sorted(from_deferd) == sorted(set(COMMANDS) - {"top"})
    assert re.fullmatch(r"deferctl \d\S*\n", deferctl("--version").stdout)


@pytest.mark.parametrize("path", ["docs/man/deferctl.1", "docs/completion/deferctl.bash",
                                  "docs/completion/_deferctl", "docs/control.md"])
def test_documents_name_every_command(path):
    text = (REPOSITORY / path).read_text(encoding="utf-8").replace("\\-", "-")
    missing = set(COMMANDS) if path != "docs/control.md" else set(COMMANDS) - {"top"}
    assert not [command for command in missing if not re.search(rf"\b{command}\b", text)]


def complete(words, environment):
    """What bash offers behind these words."""
    script = f"""
source {REPOSITORY}/docs/completion/deferctl.bash
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _deferctl
printf '%s\n' "${{COMPREPLY[@]}}"
"""
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True,
                            timeout=10, env={**os.environ, **environment})
    assert result.stderr == ""
    return result.stdout.split()


def test_bash_completes(master, phase):
    path = os.path.dirname(find_deferctl()) + ":" + os.environ["PATH"]
    environment = {"PATH": path, "DEFERD_CONTROL": master.control}
    assert complete("deferctl re", environment) == ["resume", "reload"]
    assert complete("deferctl list --f", environment) == ["--failed"]
    assert complete('deferctl pause ""', environment) == ["www"]
    assert complete('deferctl top -', environment) == ["-n", "-d", "--json"]
    assert complete('deferctl stop ""', environment) == ["--force", "1"]
    del environment["DEFERD_CONTROL"]
    assert complete(f'deferctl -s {master.control} show ""', environment) == ["1"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_completion_is_no_syntax_error():
    subprocess.run(["zsh", "-n", str(REPOSITORY / "docs/completion/_deferctl")], check=True)


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man")
def test_manual_has_no_mistakes():
    result = subprocess.run(["man", "--warnings", "-l", str(REPOSITORY / "docs/man/deferctl.1")],
                            capture_output=True, text=True, check=True,
                            env={**os.environ, "MANWIDTH": "80"})
    assert result.stderr == ""


# --- top -----------------------------------------------------------------------------------------


class Terminal:
    """deferctl top in a terminal of its own."""

    def __init__(self, path, rows=24, columns=100, arguments=()):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.output = b""
        self.process = subprocess.Popen(
            [find_deferctl(), "-s", path, "top", *arguments], stdin=slave, stdout=slave,
            stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm"})

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            self.output += os.read(self.master, 65536)

    def wait_for(self, pattern, timeout=5.0, after=0):
        def found():
            self.read()
            return re.search(pattern, self.output[after:])

        return wait_until(found, timeout, f"{pattern!r} in {self.output[-2000:]!r}", 0.02)

    def press(self, key):
        os.write(self.master, key)

    def end(self):
        status = self.process.wait(5.0)
        self.read()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)

    def assert_restored(self):
        assert self.output.endswith(b"\x1b[?25h\x1b[?1049l")
        assert termios.tcgetattr(self.slave) == self.before


def test_top_shows_what_runs_and_q_ends_it(master, phase):
    with Terminal(master.control) as terminal:
        terminal.wait_for(rb"1/2 first +40% two of five")
        terminal.wait_for(rb"1 of 4 busy, 1 of them deferred")
        seen = len(terminal.output)
        phase.report({"event": "done", "task": 0, "ms": 3}, {"event": "start", "task": 1})
        terminal.wait_for(rb"2/2 mail\\x1B", after=seen)
        terminal.press(b"q")
        assert terminal.end() == 0
        terminal.assert_restored()
        assert b"\x1b[2J" not in terminal.output and b"\x9b" not in terminal.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_top_restores_the_terminal_on_a_signal(master, number):
    with Terminal(master.control) as terminal:
        terminal.wait_for(rb"deferctl top")
        terminal.process.send_signal(number)
        assert terminal.end() == 0
        terminal.assert_restored()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_top_ends_on_a_signal_while_deferd_does_not_answer(master, number):
    with Terminal(master.control) as terminal:
        terminal.wait_for(rb"deferctl top")
        os.kill(master.worker_pid, signal.SIGSTOP)
        try:
            wchan = pathlib.Path(f"/proc/{terminal.process.pid}/wchan")
            wait_until(lambda: "unix_stream" in wchan.read_text(), what="top waits for an answer")
            terminal.process.send_signal(number)
            assert terminal.end() == 0
            terminal.assert_restored()
        finally:
            os.kill(master.worker_pid, signal.SIGCONT)


def test_top_survives_a_reload_and_says_when_deferd_is_gone(master):
    with Terminal(master.control) as terminal:
        terminal.wait_for(rb"worker process %d" % master.worker_pid)
        fresh = master.reload()
        terminal.wait_for(rb"worker process %d" % fresh)
        master.quit()
        terminal.wait_for(rb"deferd is not there")
        terminal.press(b"q")
        assert terminal.end() == 0
        terminal.assert_restored()


@pytest.mark.parametrize(("rows", "columns"), [(3, 20), (1, 1), (10, 200)])
def test_top_fits_the_terminal(master, phase, rows, columns):
    with Terminal(master.control, rows, columns) as terminal:
        terminal.wait_for(rb"\x1b\[J")
        seen = len(terminal.output)
        terminal.wait_for(rb"\x1b\[H(.|\n)*\x1b\[J", after=seen)
        terminal.press(b"q")
        assert terminal.end() == 0
        screens = re.findall(rb"\x1b\[H(.*?)\x1b\[J", terminal.output, re.DOTALL)
        assert screens
        for screen in screens:
            assert screen.count(b"\n") < rows
            for line in screen.split(b"\n"):
                plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", line).decode()
                assert len(plain.rstrip("\r")) <= columns, line


def test_top_needs_a_terminal_and_a_deferd(ctl, workspace):
    result = ctl("top", stdin=subprocess.DEVNULL)
    assert (result.returncode, result.stdout) == (2, "")
    with Terminal(workspace.path("none")) as terminal:
        assert terminal.end() == 3
        assert b"deferd is not there" in terminal.process.stderr.read()


def test_top_ends_after_so_many_screens(master):
    with Terminal(master.control, arguments=["-n", "2", "-d", "0.1"]) as terminal:
        assert terminal.end() == 0
        terminal.assert_restored()
        assert len(re.findall(rb"deferctl top  \d", terminal.output)) == 2


class Stream:
    """deferctl top --json, with its lines as they come."""

    def __init__(self, path, *arguments):
        self.process = subprocess.Popen(
            [find_deferctl(), "-s", path, "top", "--json", *arguments], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def next(self):
        return json.loads(self.process.stdout.readline())

    def wait_for(self, fits, limit=100):
        """The first line that fits."""
        for _ in range(limit):
            shown = self.next()
            if fits(shown):
                return shown
        raise AssertionError(f"nothing that fits in {limit} lines: {shown}")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.process.kill()
        self.process.communicate()


def test_top_json_is_an_object_a_line(ctl, phase, master):
    began = time.time()
    result = ctl("top", "--json", "-n", "2", "-d", "0.1", stdin=subprocess.DEVNULL)
    assert (result.returncode, result.stderr) == (0, "")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert list(first) == ["time", "status", "pools", "list"]
    assert began <= first["time"] + 0.001 and first["time"] + 0.1 <= second["time"] <= time.time()
    assert first["status"]["pid"] == master.worker_pid
    assert list(first["pools"][0]) == list(json.loads(ctl("pools", "--json").stdout)[0])
    assert first["list"][0]["tasks"][0]["text"] == "two of five"
    assert first["list"][0]["tasks"][1]["name"] == HOSTILE
    assert result.stdout.isascii()


def test_top_json_follows_what_happens(master, phase):
    with Stream(master.control, "-d", "0.1") as stream:
        assert stream.next()["list"][0]["tasks"][1]["state"] == "waiting"
        phase.report({"event": "done", "task": 0, "ms": 3}, {"event": "start", "task": 1})
        stream.wait_for(lambda shown: shown["list"][0]["tasks"][1]["state"] == "running")
        phase.report({"event": "done", "task": 1, "ms": 3}, {"event": "end"})
        phase.end()
        stream.wait_for(lambda shown: shown["list"] == [])


def test_top_json_survives_a_reload_and_says_when_deferd_is_gone(master):
    with Stream(master.control, "-d", "0.1") as stream:
        assert stream.next()["status"]["pid"] == master.worker_pid
        fresh = master.reload()
        stream.wait_for(lambda shown: shown.get("status", {}).get("pid") == fresh)
        master.quit()
        gone = stream.wait_for(lambda shown: "error" in shown)
        assert list(gone) == ["time", "error"]
        assert "deferd is not there" in gone["error"]


def test_top_json_ends_with_its_reader(master):
    with Stream(master.control, "-d", "0.1") as stream:
        stream.next()
        stream.process.stdout.close()
        assert stream.process.wait(5.0) == -signal.SIGPIPE
        stream.process.stdout = None


def test_top_json_needs_a_deferd_and_room(ctl, workspace):
    assert_fails(deferctl("-s", workspace.path("none"), "top", "--json"), 3, "deferd is not there")
    with open("/dev/full", "w", encoding="utf-8") as full:
        result = subprocess.run(
            [find_deferctl(), "-s", ctl.__closure__[0].cell_contents.control, "top", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=10)
    assert (result.returncode, result.stderr) == (
        1, "deferctl: top: cannot write: No space left on device\n")
