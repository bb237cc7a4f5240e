"""A temporary directory that holds one run's sockets, configurations and logs."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading


def _interrupt(_number, _frame):
    raise KeyboardInterrupt("SIGTERM")


class Workspace:
    """A directory, and a stack of what has to end before the directory goes.

    Programs and sockets are entered with `workspace.enter(...)`, and leave in
    reverse order, also when this process gets SIGTERM. The path is short
    because a unix socket's path must fit in 107 bytes.
    """

    def __init__(self, prefix="deferd-"):
        self._prefix = prefix
        self._stack = contextlib.ExitStack()
        self.directory = None

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix=self._prefix, dir="/tmp")
        os.chmod(self.directory, 0o755)
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._catch_sigterm()
        return self

    def _catch_sigterm(self):
        default = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        if default and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)
            self._stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)

    def __exit__(self, *exc_info):
        return self._stack.__exit__(*exc_info)

    def enter(self, resource):
        return self._stack.enter_context(resource)

    def callback(self, function, *args):
        self._stack.callback(function, *args)

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def make_directory(self, *names):
        path = self.path(*names)
        os.makedirs(path, exist_ok=True)
        return path

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def read(self, name):
        """The text of a file, empty when nobody has written it yet."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def lines(self, name):
        return self.read(name).splitlines()
