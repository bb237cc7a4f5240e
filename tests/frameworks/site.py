"""An application of the catalog, served; and what a visit to it shows."""

import itertools
import os
import time
from dataclasses import dataclass

from harness import App, Deferd, Fifo, Fpm, control

WORKERS = 4
LOCATION = """\
            fastcgi_param DEMO_LOG {directory}/$arg_log;
            gzip on;
            gzip_types text/plain;
"""


@dataclass(frozen=True)
class Seen:
    """What became of a request: `workers` ran its callbacks, `worker` answered it. `logged` are the
    tasks' names in its line of the log."""

    status: int
    headers: dict
    body: bytes
    response_ms: float
    callbacks: tuple
    workers: frozenset
    worker: int
    outcome: str
    logged: str

    @property
    def same_worker(self):
        return self.workers == {self.worker}


class Site:
    """An application on php-fpm behind nginx, with deferd between them unless it is False."""

    def __init__(self, workspace, framework, deferd=True, workers=WORKERS, location=""):
        self.app = App(workspace, framework.app)
        self.version = framework.version(self.app)
        self._workspace = workspace
        self._numbers = itertools.count(1)
        self._access_log = workspace.path("access.log")
        self._control = workspace.path("control.sock")
        # php-fpm's own log tells who answered, of any application.
        self.fpm = workspace.enter(Fpm(workspace, workers=workers, pool={
            "access.log": self._access_log, "access.format": '"%p %{REQUEST_URI}e"'}))
        self.deferd = None
        if deferd:
            self.deferd = workspace.enter(Deferd(
                workspace.path("deferd.sock"), self.fpm.address, max_workers=workers,
                arguments=("--control", self._control)))
        upstream = (self.deferd or self.fpm).address
        location = LOCATION.format(directory=workspace.directory) + location
        self.nginx = workspace.enter(self.app.serve(workspace, upstream, location))

    def fifo(self):
        """A log for one visit, which holds its callbacks back."""
        return Fifo(self._workspace.path(f"visit-{next(self._numbers)}"))

    @staticmethod
    def uri(kind, fifo, ms=0):
        return f"{kind.path}?ms={ms}&log={os.path.basename(fifo.path)}"

    def request(self, kind, fifo, ms=0, headers=None):
        """The response, which no callback has ended before: they wait for the log."""
        return self.nginx.request(kind.method, self.uri(kind, fifo, ms), body=kind.body,
                                  headers={**kind.headers, **(headers or {})})

    def visit(self, kind, ms=0):
        """A whole visit, until its worker is free again. Behind deferd only."""
        with self.fifo() as fifo:
            begun = time.monotonic()
            response = self.request(kind, fifo, ms)
            response_ms = (time.monotonic() - begun) * 1000
            fifo.open()
            uri = self.uri(kind, fifo, ms)
            outcome = self.outcome(uri)
            rows = [line.split(" ", 1) for line in fifo.lines()]
        return Seen(response.status, response.headers, response.body, response_ms,
                    callbacks=tuple(name for _, name in rows),
                    workers=frozenset(int(pid) for pid, _ in rows),
                    worker=self.worker(uri), outcome=outcome,
                    logged=self.deferd.wait_for_request(uri).tasks)

    def status(self):
        """What `deferctl status` has."""
        return control(self._control, "status")

    def outcome(self, uri):
        """What deferd shows of a request that is over: its outcome, and its tasks."""
        request = self.deferd.wait_for_request(uri)
        phases = [phase for phase in control(self._control, "list --all") if phase["uri"] == uri]
        tasks = [f"{task['name']} {task['state']}" for phase in phases for task in phase["tasks"]]
        return ": ".join(filter(None, [request.outcome, ", ".join(tasks)]))

    def worker(self, uri):
        """Who answered this request, by php-fpm's access log."""
        with open(self._access_log, encoding="utf-8") as file:
            rows = [line.rstrip("\n").split(" ", 1) for line in file]
        [pid] = [int(pid) for pid, logged in rows if logged == uri]
        return pid
