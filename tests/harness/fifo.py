"""A log file that holds back who writes to it."""

import os


class Fifo:
    """A named pipe where a program appends lines to a file: who opens it waits until open().

    So an application's own log is a gate: what comes before open() waited for no line in it.
    """

    def __init__(self, path):
        self.path = path
        self._fd = None
        self._read = b""
        os.mkfifo(path)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def open(self):
        """Lets the writers on. It is opened for both, so that it has no end between two of them."""
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def lines(self):
        """All that was written so far."""
        while self._fd is not None:
            try:
                self._read += os.read(self._fd, 65536)
            except BlockingIOError:
                break
        return self._read.decode().splitlines()

    def close(self):
        """Lets go of writers that still wait, and of the pipe."""
        self.open()
        os.unlink(self.path)
        os.close(self._fd)
        self._fd = None
