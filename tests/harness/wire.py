"""One end of a FastCGI connection, under control down to the byte."""

import fcntl
import select
import socket
import struct
import termios
import time

from . import fcgi
from .waiting import DeadlinePassed


class Connection:
    """A connected socket that speaks in records, or in whatever bytes you like."""

    def __init__(self, sock, timeout=10.0):
        self.sock = sock
        self.timeout = timeout
        self.closed_by = None
        """How the other end closed, once it did: "eof" or "reset"."""
        self._reader = fcgi.RecordReader()
        self._records = []
        sock.settimeout(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def send(self, data):
        self.sock.sendall(data)

    def send_pieces(self, data, size=1):
        """The same bytes in writes of `size`, each one read before the next goes out."""
        for at in range(0, len(data), size):
            self.sock.sendall(data[at:at + size])
            self.wait_read()

    def send_split(self, data, at):
        """Two writes, the first of which was read before the second."""
        self.sock.sendall(data[:at])
        self.wait_read()
        self.sock.sendall(data[at:])

    def wait_read(self):
        """Waits until the other end has taken all that was sent (unix sockets only)."""
        if self.sock.family != socket.AF_UNIX:
            raise ValueError("TCP does not tell what the peer has read")
        deadline = time.monotonic() + self.timeout
        while self._unread():
            if time.monotonic() > deadline:
                raise DeadlinePassed("the other end does not read")

    @property
    def has_read(self):
        """Has the other end taken all that was sent (unix sockets only)?"""
        return self._unread() == 0

    def _unread(self):
        return struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0" * 4))[0]

    def send_until_blocked(self, data, quiet=0.3):
        """Writes data over and over until nothing was taken for `quiet` seconds.

        The number of bytes taken. The other end has stopped reading then.
        """
        view = memoryview(data)
        taken = 0
        self.sock.setblocking(False)
        try:
            while select.select([], [self.sock], [], quiet)[1]:
                taken += self.sock.send(view[taken % len(data):])
        except BlockingIOError:
            pass
        finally:
            self.sock.settimeout(self.timeout)
        return taken

    def record(self, type, content=b"", id=1, padding=0, version=1):
        self.send(fcgi.record(type, id, content, padding, version))

    def read_record(self, timeout=None):
        """The next record, or None when the other end has closed."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self._records:
            data = self._receive(deadline - time.monotonic())
            if not data:
                return None
            self._records += self._reader.feed(data)
        return self._records.pop(0)

    def read_bytes(self, count=65536, timeout=None):
        """Up to `count` raw bytes, b"" at the end; not to be mixed with records."""
        return self._receive(self.timeout if timeout is None else timeout, count)

    def _receive(self, timeout, count=262144):
        self.sock.settimeout(max(timeout, 0.0001))
        try:
            data = self.sock.recv(count)
        except (TimeoutError, BlockingIOError):
            raise DeadlinePassed("nothing came, and the connection stays open") from None
        except ConnectionResetError:
            self.closed_by = "reset"
            return b""
        finally:
            self.sock.settimeout(self.timeout)
        if not data:
            self.closed_by = self.closed_by or "eof"
        return data

    def read_records_until_closed(self, timeout=None):
        """Every record that still comes before the other end closes."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        records = []
        while (record := self.read_record(deadline - time.monotonic())) is not None:
            records.append(record)
        return records

    def wait_closed(self, timeout=None):
        """Waits until the other end has closed; what it sent before is dropped."""
        self.read_records_until_closed(timeout)

    @property
    def torn(self):
        """True when bytes of an unfinished record have come."""
        return self._reader.pending > 0

    def silent(self, seconds):
        """True when nothing comes and nothing closes in that time.

        For what must not happen; it always costs the time.
        """
        if self._records:
            return False
        return not select.select([self.sock], [], [], seconds)[0]

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST where the protocol has one (TCP)."""
        if self.sock.family != socket.AF_UNIX:
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()
