"""A gate that holds deferred work until a test lets it through."""

import fcntl
import os


class Gate:
    """A file locked by this process; whoever locks it shared waits for open().

    A lock, because the kernel drops it when the test dies: no worker is left
    waiting for ever. In PHP: `flock(fopen($path, 'r'), LOCK_SH)`.
    """

    def __init__(self, path):
        self.path = path
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def open(self):
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.open()
