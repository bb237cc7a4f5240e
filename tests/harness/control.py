"""The control socket, raw and by deferctl."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

from .daemon import REPOSITORY, find_binary

TIMEOUT = 15.0


class CommandFailed(Exception):
    """deferd answered that a command failed."""


def find_deferctl():
    """DEFERCTL_BIN, or the one beside deferd, or what `make` builds."""
    beside = pathlib.Path(find_binary()).with_name("deferctl")
    found = os.environ.get("DEFERCTL_BIN") or (str(beside) if beside.exists() else None)
    return found or str(REPOSITORY / "build" / "deferctl")


class Control:
    """A connection to a control socket."""

    def __init__(self, path, timeout=TIMEOUT):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self._file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def close(self):
        self._file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode() + b"\n")

    def read(self):
        """The next answer; None at the connection's end."""
        line = self._file.readline()
        return json.loads(line) if line else None

    def call(self, command):
        """The result of a command; raises CommandFailed with its error."""
        self.send(command)
        answer = self.read()
        if answer is None:
            raise ConnectionResetError(f"no answer to {command}")
        if not answer["ok"]:
            raise CommandFailed(answer["error"])
        return answer["result"]


def control(path, command, timeout=TIMEOUT):
    """One command on a connection of its own."""
    with Control(path, timeout) as connection:
        return connection.call(command)


def deferctl(*arguments, env=None, timeout=TIMEOUT, **options):
    """Runs deferctl to its end; for another user a copy, for the build may lie where that one may
    not look."""
    with tempfile.TemporaryDirectory(prefix="deferd-") as directory:
        binary = find_deferctl()
        if "user" in options:
            os.chmod(directory, 0o755)
            binary = shutil.copy(binary, directory)
        return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True,
                              check=False, timeout=timeout, env={**os.environ, **(env or {})},
                              **options)
