"""deferd with a configuration file: a master, and the worker it runs."""

import os
import re
import signal

from . import proc
from .address import Address
from .daemon import Deferd, find_binary
from .waiting import wait_until

WORKS = r"\bworker (\d+) works now\b"
FAILED = r"\bthe (?:reload|upgrade) failed, nothing has changed: (.*)"


class Master(Deferd):
    """A deferd master in the foreground, in a directory of its own.

    One pool, `www`, listens on a unix socket there; `pool` are further directives of it, `pools`
    further pools by name, and `options` the directives of [global]. There is a pid file and a
    control socket. A directive that is None is left out.
    """

    name = "deferd master"

    def __init__(self, workspace, upstream, max_workers=4, pool=None, pools=None, options=None,
                 arguments=(), name="master", binary=None):
        self.directory = workspace.make_directory(name)
        upstream = upstream.address if hasattr(upstream, "address") else upstream
        super().__init__(os.path.join(self.directory, "deferd.sock"), upstream, max_workers)
        self.binary = binary or find_binary()
        self.file = os.path.join(self.directory, "deferd.conf")
        self.pid_file = os.path.join(self.directory, "deferd.pid")
        self.control = os.path.join(self.directory, "control.sock")
        self._master_arguments = list(arguments)
        self.environment = {}
        self.pass_fds = ()
        self.options = {
            "pid": self.pid_file,
            "control": self.control,
            "log_level": "notice",
            **(options or {}),
        }
        self.pools = {
            "www": {
                "listen": self._listen,
                "upstream": self._upstream,
                "upstream.max_workers": max_workers,
                **(pool or {}),
            },
            **(pools or {}),
        }
        self.address = Address.parse(self.pools["www"]["listen"])

    def write_file(self, text=None):
        """Writes the configuration, or another text in its place."""
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(self.text() if text is None else text)

    def text(self):
        sections = {"global": self.options, **self.pools}
        lines = []
        for name, directives in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {value}" for key, value in directives.items() if value is not None]
        return "\n".join(lines) + "\n"

    def argv(self):
        return [self.binary, "-c", self.file, *self._master_arguments]

    def start(self, timeout=10.0):
        self.write_file()
        before = len(self.lines)
        self.spawn(self.argv(), self.environment, self.pass_fds)
        self.wait_for_line(WORKS, timeout, after=before)
        return self

    def worker_pids(self):
        """All workers that are there, those that drain too."""
        return proc.children(self.pid)

    @property
    def worker_pid(self):
        """The worker that works, by the log's last word."""
        found = [match for line in list(self.lines) if (match := re.search(WORKS, line))]
        return int(found[-1][1])

    def _change(self, number, pattern, timeout):
        before = len(self.lines)
        self.signal(number)
        return self.wait_for_line(pattern, timeout, after=before)[1]

    def reload(self, timeout=10.0):
        """Writes the configuration as it is now, and has it read; the new worker's pid."""
        self.write_file()
        return int(self._change(signal.SIGHUP, WORKS, timeout))

    def reload_fails(self, timeout=10.0):
        """Has the file read as it lies there, in the hope that it is refused; the reason."""
        return self._change(signal.SIGHUP, FAILED, timeout)

    def upgrade(self, timeout=10.0):
        """Goes on as the binary that now has the old one's path; the new worker's pid."""
        before = len(self.lines)
        worker = int(self._change(signal.SIGUSR2, WORKS, timeout))
        self.wait_for_line(r"upgrade: master \d+ goes on", timeout, after=before)
        return worker

    def upgrade_fails(self, timeout=10.0):
        return self._change(signal.SIGUSR2, FAILED, timeout)

    def quit(self, timeout=15.0):
        """SIGQUIT, and the exit status once everything has finished."""
        self.signal(signal.SIGQUIT)
        return self.wait(timeout)

    def kill_worker(self, number=signal.SIGKILL):
        """Ends the worker that works, which is not waited for; its pid."""
        pid = self.worker_pid
        os.kill(pid, number)
        return pid

    def wait_for_worker(self, other_than, timeout=10.0):
        """Waits for a worker that is not this one to work; its pid."""
        return wait_until(
            lambda: self.worker_pid != other_than and self.worker_pid,
            timeout,
            f"another worker than {other_than}\n{self.tail()}",
        )

    def wait_for_only(self, pid, timeout=10.0):
        """Waits until all workers but this one have ended."""
        wait_until(
            lambda: self.worker_pids() == [pid],
            timeout,
            f"no worker but {pid}, there are {self.worker_pids()}\n{self.tail()}",
        )
