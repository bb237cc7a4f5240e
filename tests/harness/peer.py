"""A FastCGI application in php-fpm's place, driven step by step.

Only for what php-fpm cannot be made to do: the real one is in fpm.py.
"""

import json
import select
import time
from dataclasses import dataclass, field

from . import fcgi
from .address import Address, local_address
from .waiting import DeadlinePassed
from .wire import Connection

BARRIER_ANSWER = fcgi.record(fcgi.GET_VALUES_RESULT, 0,
                             fcgi.encode_pairs({"FCGI_MPXS_CONNS": "0"}))
"""What php-fpm answers to a barrier."""


@dataclass
class Request:
    """A request as the application received it."""

    id: int = 0
    role: int = 0
    flags: int = 0
    pairs: list = field(default_factory=list)
    params_records: list = field(default_factory=list)
    stdin: bytes = b""

    @property
    def params(self):
        """As php-fpm sees them: the last of a name that repeats."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.pairs}

    @property
    def token(self):
        return self.params["DEFERD_TOKEN"]

    @property
    def uri(self):
        return self.params.get("REQUEST_URI")

    @property
    def keep(self):
        return bool(self.flags & fcgi.KEEP_CONN)


class PeerConnection(Connection):
    """One accepted connection, and the request on it."""

    def __init__(self, sock, timeout=10.0):
        super().__init__(sock, timeout)
        self.request = Request()
        self.stdin_ended = False

    def read_begin(self):
        record = self._expect(fcgi.BEGIN_REQUEST)
        self.request.id = record.id
        self.request.role = int.from_bytes(record.content[:2], "big")
        self.request.flags = record.content[2]
        return self.request

    def read_params(self):
        """BEGIN_REQUEST and the params to their end; the body stays unread."""
        self.read_begin()
        while (record := self._expect(fcgi.PARAMS)).content:
            self.request.params_records.append(record)
        content = b"".join(record.content for record in self.request.params_records)
        self.request.pairs = fcgi.decode_pairs(content)
        return self.request

    def read_stdin(self, count=None):
        """Body: to its end, or until at least `count` more bytes have come."""
        parts = []
        got = 0
        while not self.stdin_ended and (count is None or got < count):
            record = self._expect(fcgi.STDIN)
            self.stdin_ended = not record.content
            parts.append(record.content)
            got += len(record.content)
        data = b"".join(parts)
        self.request.stdin += data
        return data

    def read_request(self):
        self.read_params()
        self.read_stdin()
        return self.request

    def next_request(self):
        """The connection was kept: what comes from here on is another request."""
        self.request = Request()
        self.stdin_ended = False
        return self

    def read_kept_request(self):
        """A request that is sent with KEEP_CONN: the barrier behind it is read, not answered."""
        self.read_request()
        self.expect_barrier()
        return self.request

    def read_guarded_params(self):
        """A barrier and a request's params: what stays unread is the body."""
        self.expect_barrier()
        return self.read_params()

    def read_guarded_request(self):
        """A request without a body, as deferd sends those that must not be run twice.

        The barrier in front is read and answered; then comes what follows the params.
        """
        self.read_guarded_params()
        self.answer_barrier()
        self.read_stdin()
        self.expect_barrier()
        return self.request

    def expect_barrier(self):
        record = self._expect(fcgi.GET_VALUES)
        if record.id != 0 or fcgi.decode_pairs(record.content) != [(b"FCGI_MPXS_CONNS", b"")]:
            raise AssertionError(f"no barrier: {record}")

    def answer_barrier(self):
        self.send(BARRIER_ANSWER)

    def answer_and_stay(self, body=b"hello\n"):
        """A whole response to a request with KEEP_CONN, whose worker is free at once.

        Returns when deferd has read it: the connection is idle then.
        """
        head = fcgi.record(fcgi.STDOUT, self.request.id, b"Content-Type: text/plain\r\n\r\n" + body)
        self.send(head + fcgi.end_request(self.request.id) + BARRIER_ANSWER)
        self.wait_read()

    def _expect(self, type):
        record = self.read_record()
        if record is None or record.type != type:
            raise AssertionError(f"expected a record of type {type}, got {record}")
        return record

    def stdout(self, data, padding=0):
        for at in range(0, len(data), fcgi.MAX_CONTENT):
            self.record(fcgi.STDOUT, data[at:at + fcgi.MAX_CONTENT], self.request.id, padding)

    def stderr(self, data, padding=0):
        self.record(fcgi.STDERR, data, self.request.id, padding)

    def end(self, app_status=0, protocol_status=fcgi.REQUEST_COMPLETE):
        self.send(fcgi.end_request(self.request.id, app_status, protocol_status))

    def marker(self):
        self.stdout(fcgi.marker(self.request.token))

    def report(self, *events):
        self.stdout(b"".join(report_line(event) for event in events))

    def answer(self, body=b"hello\n", headers=b"Content-Type: text/plain\r\n"):
        """A whole response in the way php-fpm writes one, and the end."""
        self.stdout(headers + b"\r\n" + body)
        self.end()

    def answer_and_defer(self, body=b"hello\n", tasks=("task",), pid=4242):
        """A whole response, the marker and the first report: the deferred phase runs."""
        head = b"Content-Type: text/plain\r\n\r\n"
        self.stdout(head + body + fcgi.marker(self.request.token))
        self.report({"event": "begin", "pid": pid, "tasks": list(tasks)})

    def finish_tasks(self, count=1):
        """Every task runs well, and the request ends."""
        for task in range(count):
            self.report({"event": "start", "task": task})
            self.report({"event": "done", "task": task, "ms": 1.5})
        self.report({"event": "end"})
        self.end()


def report_line(event):
    """An event as one line; bytes are passed on as they are."""
    if isinstance(event, bytes):
        return event
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


class FcgiPeer:
    """Listens, and hands out connections one by one."""

    def __init__(self, address, backlog=511, timeout=10.0):
        self._wanted = Address.parse(address)
        self._backlog = backlog
        self._timeout = timeout
        self._socket = None
        self._connections = []
        self.address = None

    def __enter__(self):
        self._socket = self._wanted.listen(self._backlog)
        self.address = local_address(self._socket)
        return self

    def __exit__(self, *exc_info):
        self.end()

    def close(self):
        """Stops listening; accepted connections stay as they are."""
        self._socket.close()

    def end(self):
        """Closes everything."""
        self.close()
        for connection in self._connections:
            connection.close()

    def accept(self, timeout=None):
        timeout = self._timeout if timeout is None else timeout
        if not select.select([self._socket], [], [], timeout)[0]:
            raise DeadlinePassed(f"no connection came within {timeout} s")
        sock, _ = self._socket.accept()
        connection = PeerConnection(sock, self._timeout)
        self._connections.append(connection)
        return connection

    def accept_request(self, timeout=None):
        """Accepts, and reads the whole request."""
        connection = self.accept(timeout)
        connection.read_request()
        return connection

    def accept_question(self):
        """deferd's opening connection: does its peer survive two barriers? Not answered."""
        connection = self.accept()
        connection.expect_barrier()
        connection.expect_barrier()
        return connection

    def answer_question(self, stay=False):
        """Answers it as a php-fpm does whose connections can be kept.

        deferd keeps this connection too: `stay` returns it; otherwise it is closed, and
        the first request comes on a connection of its own.
        """
        connection = self.accept_question()
        connection.send(BARRIER_ANSWER * 2)
        connection.wait_read()
        if not stay:
            connection.half_close()
            connection.wait_closed()
        return connection

    def idle(self, seconds=0.1):
        """True when no connection comes in that time. It always costs the time."""
        return not select.select([self._socket], [], [], seconds)[0]

    def serve(self, handle, count, timeout=None):
        """Accepts `count` connections in turn and calls handle(connection) for each."""
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        for _ in range(count):
            connection = self.accept(deadline - time.monotonic())
            handle(connection)
            connection.close()
            self._connections.remove(connection)
