"""deferd itself."""

import os
import pathlib
import re

from . import proc
from .address import Address
from .process import Process
from .requestlog import parse_cause, parse_request
from .waiting import wait_until

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "LeakSanitizer", "runtime error:")


def find_binary():
    """DEFERD_BIN, or what `make` builds."""
    return os.environ.get("DEFERD_BIN") or str(REPOSITORY / "build" / "deferd")


def sanitized():
    """True when the binary is a sanitizer build, whose memory says nothing."""
    return os.environ.get("DEFERD_SANITIZED") == "1"


class Deferd(Process):
    """One deferd process.

    Leaving its `with` block sends SIGTERM and raises when it did not end well:
    a sanitizer's report, a status other than 0, or no end at all.
    """

    name = "deferd"

    def __init__(self, listen, upstream, max_workers=4, log_level=None, listen_mode=None,
                 max_params=None, keepalive=None, arguments=()):
        super().__init__()
        self._listen = str(listen)
        self._upstream = str(upstream)
        self.max_workers = max_workers
        self._options = {
            "--log-level": log_level,
            "--listen-mode": listen_mode,
            "--max-params": max_params,
            "--upstream-keepalive": keepalive,
        }
        self._arguments = list(arguments)
        self._expect_exit = True
        self._requests = []
        self._causes = []
        self.address = None
        self.ready_line = None

    def __enter__(self):
        return self.start()

    def __exit__(self, exc_type, exc, traceback):
        try:
            if self.running:
                self.stop()
        except AssertionError:
            if exc_type is None:
                raise
        finally:
            self.end()
        if exc_type is None:
            self.check()

    def argv(self):
        argv = [find_binary(), "--listen", self._listen, "--upstream", self._upstream]
        argv += ["--max-workers", str(self.max_workers)]
        for name, value in self._options.items():
            if value is not None:
                argv += [name, str(value)]
        return argv + self._arguments

    def start(self, timeout=10.0):
        before = len(self.lines)
        self.spawn(self.argv())
        if self._options["--log-level"] in ("alert", "error", "warning"):
            self.address = Address.parse(self._listen)
            wait_until(self._accepts, timeout, f"{self.name}: a connection\n{self.tail()}")
            return self
        match = self.wait_for_line(r"\bready\b.*\blistening on (\S+)", timeout, after=before)
        self.ready_line = match.string
        self.address = Address.parse(match[1].rstrip(",.;"))
        return self

    def _accepts(self):
        """Without the ready line: somebody listens. Not for port 0."""
        try:
            self.address.connect(1.0).close()
        except OSError:
            return False
        return True

    def stop(self, timeout=15.0):
        """SIGTERM, and the exit status once what runs has finished."""
        return self.terminate(timeout)

    def expect_end(self):
        """The test ends the process in its own way: any exit status is right."""
        self._expect_exit = False

    def problems(self):
        """What must not have happened: a list of sentences, empty when all is well."""
        found = [
            f"{report}: {line}"
            for line in list(self.lines)
            for report in SANITIZER_REPORTS
            if report in line
        ]
        if self._expect_exit and self.status is not None and self.status != 0:
            found.append(f"deferd's exit status was {self.status}")
        return found

    def check(self):
        problems = self.problems()
        if problems:
            raise AssertionError("\n".join([*problems, self.tail(80)]))

    def on_line(self, line):
        request = parse_request(line)
        if request:
            self._requests.append(request)
        else:
            cause = parse_cause(line)
            if cause:
                self._causes.append(cause)

    @property
    def requests(self):
        """The requests that have finished, in the order of the log."""
        return list(self._requests)

    @property
    def causes(self):
        """The lines about single requests."""
        return list(self._causes)

    def causes_of(self, request):
        return [cause.text for cause in self.causes if cause.number == request.number]

    def wait_for_request(self, uri=None, count=1, timeout=5.0, **fields):
        """Waits for the count-th finished request with this uri (and fields), and returns it."""
        wanted = {**fields, **({} if uri is None else {"uri": uri})}

        def find():
            found = [
                request
                for request in self.requests
                if all(getattr(request, name) == value for name, value in wanted.items())
            ]
            return found[count - 1] if len(found) >= count else None

        return self.wait_for(find, timeout, f"the line of request {count} with {wanted}")

    def wait_for_requests(self, count, timeout=5.0):
        """Waits until `count` requests have finished, and returns them all."""

        def find():
            return self.requests if len(self._requests) >= count else None

        return self.wait_for(find, timeout, f"{count} finished requests")

    def wait_for_cause(self, pattern, timeout=5.0):
        """Waits for a line about a request that has the pattern."""

        def find():
            return next((c for c in self.causes if re.search(pattern, c.text)), None)

        return self.wait_for(find, timeout, f"a cause with {pattern!r}")

    def fds(self):
        """What it has open."""
        return proc.fds(self.pid)

    def fds_at_rest(self, timeout=5.0):
        """What it has open when no connection is, one kept to php-fpm included."""
        wait_until(lambda: self.sockets() == 1, timeout, "no socket but the listener")
        return self.fds()

    def wait_for_fds(self, expected, timeout=5.0):
        """Waits until it has exactly as many descriptors open as `expected` lists."""
        try:
            wait_until(lambda: len(self.fds()) == len(expected), timeout, "descriptors back")
        except AssertionError as error:
            raise AssertionError(f"{error}\nexpected {expected}\nfound {self.fds()}") from None

    def sockets(self):
        """How many of its descriptors are sockets."""
        return sum(target.startswith("socket:") for target in self.fds())

    def rss_kb(self):
        return proc.rss_kb(self.pid)

    def pss_kb(self):
        return proc.pss_kb(self.pid)

    def anonymous_kb(self):
        return proc.anonymous_kb(self.pid)

    def peak_rss_kb(self):
        return proc.peak_rss_kb(self.pid)

    def cpu_seconds(self):
        return proc.cpu_seconds(self.pid)
