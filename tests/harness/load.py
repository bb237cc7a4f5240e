"""Many HTTP clients at once, in one thread: each sends its next request when it has its answer."""

import re
import selectors
from dataclasses import dataclass

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")
LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """One request, by the name that its answer and its traces are known by."""

    id: str
    method: str
    uri: str
    body: str = ""

    @property
    def safe(self):
        return self.method == "GET"

    def encode(self):
        length = f"Content-Length: {len(self.body)}\r\n" if self.body or not self.safe else ""
        return f"{self.method} {self.uri} HTTP/1.1\r\nHost: x\r\n{length}\r\n{self.body}".encode()


@dataclass(frozen=True)
class Answer:
    """What came for a request; status None: the connection ended in the midst of it."""

    request: Request
    status: int
    text: str


class _Client:
    """A kept connection, made again when the server ends it."""

    def __init__(self, nginx, selector):
        self._nginx = nginx
        self._selector = selector
        self._sock = None
        self._data = b""
        self._request = None

    def ask(self, request):
        if self._sock is None:
            self._sock = self._nginx.socket()
            self._selector.register(self._sock, selectors.EVENT_READ, self)
        self._request = request
        self._data = b""
        try:
            self._sock.sendall(request.encode())
        except OSError:
            pass  # reading tells the same

    def read(self):
        """The Answer, or None while there is more to come."""
        try:
            data = self._sock.recv(65536)
        except ConnectionError:
            data = b""
        self._data += data
        if data and not self._complete():
            return None
        status = int(self._data[9:12]) if data else None
        text = self._data.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")
        if not data or b"\r\nConnection: close\r\n" in self._data:
            self.close()
        return Answer(self._request, status, text)

    def _complete(self):
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n")
        return end and (len(body) >= int(length[1]) if length else self._data.endswith(LAST_CHUNK))

    def close(self):
        if self._sock is not None:
            self._selector.unregister(self._sock)
            self._sock.close()
            self._sock = None


def send_all(nginx, requests, clients):
    """Sends all of the requests, so many at a time; the Answers in the order they came in.

    requests may be a generator that somebody else brings to its end.
    """
    requests = iter(requests)
    answers = []
    with selectors.DefaultSelector() as selector:
        busy = set()

        def next_request(client):
            request = next(requests, None)
            if request is None:
                client.close()
                busy.discard(client)
            else:
                client.ask(request)
                busy.add(client)

        for _ in range(clients):
            next_request(_Client(nginx, selector))
        while busy:
            for key, _ in selector.select():
                answer = key.data.read()
                if answer is not None:
                    answers.append(answer)
                    next_request(key.data)
    return answers
