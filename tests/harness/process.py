"""A program in the foreground, its log read line by line as it comes."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time

from . import proc
from .waiting import DeadlinePassed, wait_until


class Process:
    """One child process whose standard error is collected in `lines`.

    It leads a session of its own, so that end() also reaches the children it
    leaves behind, and it gets SIGTERM should this process die first. (The
    kernel sends that when the *thread* dies that started it: start programs
    from a thread that lasts.)
    """

    name = "process"

    def __init__(self):
        self.lines = []
        self.status = None
        self._child = None
        self._reader = None
        self._changed = threading.Condition()
        self._eof = False

    @property
    def pid(self):
        return self._child.pid if self._child else None

    def spawn(self, argv, env=None, pass_fds=(), cwd=None):
        if shutil.which("setpriv"):
            argv = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
        self.status = None
        self._eof = False
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            pass_fds=pass_fds,
            start_new_session=True,
            cwd=cwd,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for raw in self._child.stderr:
            line = raw.decode("utf-8", "backslashreplace").rstrip("\n")
            with self._changed:
                self.lines.append(line)
                self.on_line(line)
                self._changed.notify_all()
        with self._changed:
            self._eof = True
            self._changed.notify_all()

    def on_line(self, line):
        """Called with every new line, before anybody who waits is woken."""

    def wait_for(self, find, timeout=5.0, what="a line"):
        """Waits until find() answers something true; asked after every new line."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                answer = find()
                if answer:
                    return answer
                left = deadline - time.monotonic()
                if self._eof or left <= 0:
                    why = "its log ended" if self._eof else f"not within {timeout} s"
                    raise DeadlinePassed(f"{self.name}: {why}: {what}\n{self.tail()}")
                self._changed.wait(left)

    def wait_for_line(self, pattern, timeout=5.0, after=0):
        """The match of the first line that has the pattern."""
        regex = re.compile(pattern)

        def find():
            return next(filter(None, map(regex.search, self.lines[after:])), None)

        return self.wait_for(find, timeout, f"a line with {pattern!r}")

    def has_line(self, pattern):
        return any(re.search(pattern, line) for line in list(self.lines))

    def tail(self, count=40):
        return "\n".join(self.lines[-count:])

    @property
    def running(self):
        return self._child is not None and self._child.poll() is None

    def signal(self, number):
        if self.running:
            self._child.send_signal(number)

    def wait(self, timeout=10.0):
        """Waits for its end and for the last line of its log; the exit status."""
        try:
            self.status = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise DeadlinePassed(
                f"{self.name} (pid {self.pid}) still runs after {timeout} s\n{self.tail()}"
            ) from None
        # A child left behind may hold the pipe: its end is not waited for long.
        self._reader.join(0.5)
        return self.status

    def terminate(self, timeout=10.0):
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self):
        """SIGKILL for the process itself; its children stay."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def end(self):
        """Makes sure that nothing is left of it, whatever state it is in."""
        if self._child is None:
            return
        try:
            if self.running:
                self.terminate(5.0)
        except DeadlinePassed:
            self.kill()
        finally:
            left = proc.session_members(self.pid)
            for pid in left:
                _kill_quietly(pid)
            wait_until(lambda: not any(map(proc.alive, left)), what=f"the end of {left}")
            self._reader.join(2.0)
            if not self._reader.is_alive():
                self._child.stderr.close()


def _kill_quietly(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
