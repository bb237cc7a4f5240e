"""deferd's log: one line for each finished request, and warnings."""

import re
from dataclasses import dataclass

LINE = re.compile(
    r"^\[(?P<time>\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d\.\d{3})\] "
    r"(?P<level>ALERT|ERROR|WARNING|NOTICE|DEBUG): (?P<text>.*)$"
)
REQUEST = re.compile(
    r"^request=(?P<number>\d+) method=(?P<method>\S+)"
    r" uri=(?P<uri>-|\"(?:[^\"\\]|\\x[0-9A-Fa-f]{2})*\")"
    r" status=(?P<status>\S+) queue_ms=(?P<queue_ms>\S+) response_ms=(?P<response_ms>\S+)"
    r" deferred_ms=(?P<deferred_ms>\S+) done=(?P<done>\S+) failed=(?P<failed>\S+)"
    r" skipped=(?P<skipped>\S+) outcome=(?P<outcome>\S+) pid=(?P<pid>\S+)"
    r"(?: tasks=(?P<tasks>\"(?:[^\"\\]|\\x[0-9A-Fa-f]{2})*\"))?$"
)
CAUSE = re.compile(r"^request (?P<number>\d+): (?P<text>.*)$")


@dataclass(frozen=True)
class FinishedRequest:
    """A request's line; None stands where the line has `-`."""

    number: int
    method: str
    uri: str
    status: int
    queue_ms: float
    response_ms: float
    deferred_ms: float
    done: int
    failed: int
    skipped: int
    outcome: str
    pid: int
    tasks: str


@dataclass(frozen=True)
class Cause:
    """A line that tells what happened to a request."""

    number: int
    level: str
    text: str


def _or_none(convert, text):
    return None if text == "-" else convert(text)


def _unquote(uri):
    return re.sub(r"\\x([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), uri[1:-1])


def parse_request(line):
    """The FinishedRequest of a log line, or None when it is another line."""
    outer = LINE.match(line)
    inner = outer and REQUEST.match(outer["text"])
    if not inner:
        return None
    return FinishedRequest(
        number=int(inner["number"]),
        method=_or_none(str, inner["method"]),
        uri=_or_none(_unquote, inner["uri"]),
        status=_or_none(int, inner["status"]),
        queue_ms=_or_none(float, inner["queue_ms"]),
        response_ms=_or_none(float, inner["response_ms"]),
        deferred_ms=_or_none(float, inner["deferred_ms"]),
        done=_or_none(int, inner["done"]),
        failed=_or_none(int, inner["failed"]),
        skipped=_or_none(int, inner["skipped"]),
        outcome=inner["outcome"],
        pid=_or_none(int, inner["pid"]),
        tasks=inner["tasks"] and _unquote(inner["tasks"]),
    )


def parse_cause(line):
    """The Cause of a log line, or None when it is another line."""
    outer = LINE.match(line)
    inner = outer and CAUSE.match(outer["text"])
    return Cause(int(inner["number"]), outer["level"], inner["text"]) if inner else None
