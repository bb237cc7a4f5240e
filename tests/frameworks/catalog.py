"""The applications, and the kinds of requests that all of them answer.

A framework joins with a line in FRAMEWORKS and a folder in php/examples with these routes. Each
defers two callbacks, `first` and `second`, which take `ms` milliseconds and append `PID NAME` to
the file that DEMO_LOG names.
"""

import subprocess
from dataclasses import dataclass, field
from typing import Callable

from harness import Fpm


@dataclass(frozen=True)
class Kind:
    """A kind of request; `deferring` if it has the two callbacks."""

    name: str
    method: str
    path: str
    body: str = None
    headers: dict = field(default_factory=dict)
    deferring: bool = True


FORM = {"Content-Type": "application/x-www-form-urlencoded"}

KINDS = (
    Kind("GET", "GET", "/get"),
    Kind("POST with a body", "POST", "/post", "name=value", FORM),
    Kind("HEAD", "HEAD", "/get"),
    Kind("204", "GET", "/no-content"),
    Kind("302", "GET", "/redirect"),
    Kind("streamed", "GET", "/stream"),
    Kind("compressed", "GET", "/compressed", headers={"Accept-Encoding": "gzip"}),
    Kind("error page", "GET", "/error"),
    Kind("`exit` in a controller", "GET", "/exit"),
    Kind("nothing deferred", "GET", "/plain", deferring=False),
)
SESSION = Kind("session", "GET", "/session")


@dataclass(frozen=True)
class Framework:
    """`app` is the application's folder; `version(app)` tells which one runs."""

    title: str
    app: str
    version: Callable

    def __str__(self):
        return self.app


def composer(package):
    """The version that Composer installed."""
    return lambda app: app.version(package).lstrip("v")


def debian(package):
    """The version of a Debian package, without Debian's own part."""
    argv = ["dpkg-query", "-W", "-f", "${Version}", package]
    return lambda _app: subprocess.run(argv, check=True, capture_output=True,
                                       text=True).stdout.rpartition("-")[0]


FRAMEWORKS = (
    Framework("Plain PHP", "plain", lambda _app: Fpm.version()),
    Framework("Slim 3", "slim3", debian("php-slim")),
    Framework("Slim 4", "slim4", composer("slim/slim")),
    Framework("Laravel", "laravel", composer("laravel/framework")),
    Framework("Symfony", "symfony", composer("symfony/framework-bundle")),
)
