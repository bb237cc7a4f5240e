"""A FastCGI client in nginx's place."""

from dataclasses import dataclass, field

from . import fcgi
from .address import Address
from .wire import Connection


@dataclass
class Response:
    """What came back for one request."""

    stdout: bytes = b""
    stderr: bytes = b""
    app_status: int = None
    protocol_status: int = None
    records: list = field(default_factory=list)

    @property
    def complete(self):
        """True when END_REQUEST came; otherwise the connection closed first."""
        return self.protocol_status is not None

    @property
    def head(self):
        return _split_head(self.stdout)[0]

    @property
    def body(self):
        return _split_head(self.stdout)[1]

    @property
    def headers(self):
        """Names in lower case; of a name that repeats, the last value."""
        pairs = (line.partition(b":") for line in self.head.splitlines())
        return {name.decode("latin-1").lower(): value.strip().decode("latin-1")
                for name, colon, value in pairs if colon}

    @property
    def status(self):
        return int(self.headers.get("status", "200").split()[0])


def _split_head(data):
    ends = [(data.find(end), end) for end in (b"\r\n\r\n", b"\n\n") if end in data]
    if not ends:
        return data, b""
    at, end = min(ends)
    return data[:at], data[at + len(end):]


def request_params(method="GET", uri="/", body=b"", script="/srv/index.php", extra=None):
    """The params a web server sends, with `extra` added or put in their place."""
    path, _, query = uri.partition("?")
    params = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "harness",
        "REQUEST_METHOD": method,
        "REQUEST_URI": uri,
        "SCRIPT_NAME": path,
        "SCRIPT_FILENAME": script,
        "QUERY_STRING": query,
    }
    if body:
        params["CONTENT_TYPE"] = "application/octet-stream"
        params["CONTENT_LENGTH"] = str(len(body))
    params.update(extra or {})
    return params


def encode_request(params, body=b"", id=1, keep=False, role=fcgi.RESPONDER, chunk=fcgi.MAX_CONTENT,
                   padding=0, long_form=False):
    """A whole request: BEGIN_REQUEST, PARAMS and STDIN with their ends."""
    flags = fcgi.KEEP_CONN if keep else 0
    pairs = fcgi.encode_pairs(params, long_form)
    return (
        fcgi.begin_request(id, role, flags)
        + fcgi.stream(fcgi.PARAMS, id, pairs, chunk, padding)
        + fcgi.stream(fcgi.STDIN, id, body, chunk, padding)
    )


class FcgiClient(Connection):
    """One connection from the web server's side."""

    def __init__(self, address, timeout=10.0):
        super().__init__(Address.parse(address).connect(timeout), timeout)

    def begin(self, id=1, role=fcgi.RESPONDER, keep=False):
        self.send(fcgi.begin_request(id, role, fcgi.KEEP_CONN if keep else 0))

    def params(self, params, id=1):
        self.send(fcgi.stream(fcgi.PARAMS, id, fcgi.encode_pairs(params)))

    def stdin(self, data, id=1):
        """Part of the body; data must not be empty, for that would end it."""
        for at in range(0, len(data), 32768):
            self.record(fcgi.STDIN, data[at:at + 32768], id)

    def end_stdin(self, id=1):
        self.record(fcgi.STDIN, b"", id)

    def start(self, method="GET", uri="/", body_length=0, params=None, script="/srv/index.php",
              id=1, keep=False):
        """All of a request but its body: continue with stdin() and end_stdin()."""
        extra = dict(params or {})
        if body_length:
            extra.setdefault("CONTENT_LENGTH", str(body_length))
        self.begin(id, keep=keep)
        self.params(request_params(method, uri, script=script, extra=extra), id)

    def send_request(self, method="GET", uri="/", body=b"", params=None, script="/srv/index.php",
                     id=1, keep=False):
        self.send(encode_request(request_params(method, uri, body, script, params), body, id, keep))

    def request(self, *args, timeout=None, **kwargs):
        """Sends a request and reads its response."""
        self.send_request(*args, **kwargs)
        return self.read_response(kwargs.get("id", 1), timeout)

    def read_response(self, id=1, timeout=None):
        """Reads to END_REQUEST, or to the connection's end when none comes."""
        response = Response()
        stdout, stderr = [], []
        while (record := self.read_record(timeout)) is not None:
            response.records.append(record)
            if record.id != id:
                raise AssertionError(f"a record for another request: {record}")
            if record.type == fcgi.STDOUT:
                stdout.append(record.content)
            elif record.type == fcgi.STDERR:
                stderr.append(record.content)
            elif record.type == fcgi.END_REQUEST:
                response.app_status = int.from_bytes(record.content[:4], "big")
                response.protocol_status = record.content[4]
                break
            else:
                raise AssertionError(f"no record of a response: {record}")
        response.stdout = b"".join(stdout)
        response.stderr = b"".join(stderr)
        return response

    def read_stdout(self, count, id=1):
        """Reads until `count` bytes of STDOUT have come, of a response that goes on."""
        data = b""
        while len(data) < count:
            record = self.read_record()
            if record is None or record.type == fcgi.END_REQUEST:
                raise AssertionError(f"the response ended after {data!r}")
            if record.type == fcgi.STDOUT and record.id == id:
                data += record.content
        return data

    def get_values(self, *names):
        """The pairs of a GET_VALUES_RESULT."""
        self.record(fcgi.GET_VALUES, fcgi.encode_pairs([(name, "") for name in names]), id=0)
        record = self.read_record()
        if record is None or record.type != fcgi.GET_VALUES_RESULT or record.id != 0:
            raise AssertionError(f"no GET_VALUES_RESULT: {record}")
        return dict(fcgi.decode_pairs(record.content))
