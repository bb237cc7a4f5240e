"""The FastCGI wire format: bytes in, records out, and the other way round.

Lenient on purpose where a test must be able to write what no sane peer would:
every field of a record can be set, and pairs can use the long form of a
length where the short one would do.
"""

import struct
from dataclasses import dataclass

BEGIN_REQUEST = 1
ABORT_REQUEST = 2
END_REQUEST = 3
PARAMS = 4
STDIN = 5
STDOUT = 6
STDERR = 7
DATA = 8
GET_VALUES = 9
GET_VALUES_RESULT = 10
UNKNOWN_TYPE = 11

RESPONDER = 1
AUTHORIZER = 2
FILTER = 3

KEEP_CONN = 1

REQUEST_COMPLETE = 0
CANT_MPX_CONN = 1
OVERLOADED = 2
UNKNOWN_ROLE = 3

HEADER_SIZE = 8
MAX_CONTENT = 65535


@dataclass(frozen=True)
class Record:
    """One record as it is on the wire."""

    type: int
    id: int
    content: bytes = b""
    padding: int = 0
    version: int = 1

    def encode(self):
        return header(self.type, self.id, len(self.content), self.padding, self.version) + (
            self.content + b"\0" * self.padding
        )


def header(type, id, length, padding=0, version=1, reserved=0):
    """Eight bytes that announce `length` bytes of content, whatever follows."""
    return struct.pack(">BBHHBB", version, type, id, length, padding, reserved)


def record(type, id=1, content=b"", padding=0, version=1):
    return Record(type, id, content, padding, version).encode()


def stream(type, id, data, chunk=MAX_CONTENT, padding=0):
    """A whole stream: data in records of `chunk` bytes, then the empty record."""
    parts = [data[at:at + chunk] for at in range(0, len(data), chunk)]
    return b"".join(record(type, id, part, padding) for part in [*parts, b""])


def begin_request(id=1, role=RESPONDER, flags=0):
    return record(BEGIN_REQUEST, id, struct.pack(">HB5x", role, flags))


def end_request(id=1, app_status=0, protocol_status=REQUEST_COMPLETE):
    return record(END_REQUEST, id, struct.pack(">IB3x", app_status, protocol_status))


def marker(token):
    """The 47 bytes that end a response and begin its deferred phase."""
    return b"\x1eDEFERD/1 END " + _bytes(token) + b"\n"


def encode_length(length, long_form=False):
    if length < 128 and not long_form:
        return bytes([length])
    return struct.pack(">I", length | 0x80000000)


def encode_pair(name, value, long_form=False):
    name, value = _bytes(name), _bytes(value)
    lengths = encode_length(len(name), long_form) + encode_length(len(value), long_form)
    return lengths + name + value


def encode_pairs(pairs, long_form=False):
    """The pairs of a dict, or of a list when names repeat."""
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return b"".join(encode_pair(name, value, long_form) for name, value in items)


def decode_pairs(data):
    """A list of (name, value); ValueError when the data ends inside a pair."""
    pairs = []
    at = 0

    def length():
        nonlocal at
        if at >= len(data):
            raise ValueError("the data ends before a length")
        if data[at] < 128:
            at += 1
            return data[at - 1]
        if at + 4 > len(data):
            raise ValueError("the data ends inside a length")
        at += 4
        return struct.unpack(">I", data[at - 4:at])[0] & 0x7FFFFFFF

    while at < len(data):
        name_length, value_length = length(), length()
        end = at + name_length + value_length
        if end > len(data):
            raise ValueError("the data ends inside a pair")
        pairs.append((data[at:at + name_length], data[at + name_length:end]))
        at = end
    return pairs


def _bytes(text):
    return text if isinstance(text, bytes) else str(text).encode("latin-1")


class RecordReader:
    """Takes bytes as they come, gives the records that are complete."""

    def __init__(self):
        self._buffer = bytearray()

    @property
    def pending(self):
        """Bytes of a record that has not ended."""
        return len(self._buffer)

    def feed(self, data):
        self._buffer += data
        records = []
        at = 0
        while len(self._buffer) - at >= HEADER_SIZE:
            version, type, id, length, padding = struct.unpack_from(">BBHHB", self._buffer, at)
            end = at + HEADER_SIZE + length + padding
            if len(self._buffer) < end:
                break
            content = bytes(self._buffer[at + HEADER_SIZE:at + HEADER_SIZE + length])
            records.append(Record(type, id, content, padding, version))
            at = end
        del self._buffer[:at]
        return records
