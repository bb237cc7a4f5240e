"""Many clients at once through nginx: every answer is right, every callback runs exactly once."""

import re
import shutil
import signal
import subprocess
from collections import Counter

import pytest
from harness.daemon import sanitized
from harness.waiting import wait_until


def wrk(nginx, uri, clients, seconds):
    """What wrk counted: requests, and answers other than 2xx or 3xx and socket errors."""
    program = shutil.which("wrk")
    assert program, "wrk is not installed"
    argv = [program, "-t2", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", nginx.url + uri]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 20, check=True)
    requests = int(re.search(r"(\d+) requests in", result.stdout)[1])
    errors = re.search(r"Non-2xx.*|Socket errors.*", result.stdout)
    return requests, errors and errors[0]


def end_gracefully(nginx):
    """nginx finishes what it has begun."""
    nginx.signal(signal.SIGQUIT)
    nginx.wait()


# nginx gives a request up when wrk leaves at the end; here it is to finish it: the sums must agree.
PATIENT = {"location": "fastcgi_ignore_client_abort on;\n"}


@pytest.mark.time_limit(60)
def test_every_registered_callback_runs_exactly_once(start_site, start_fpm, workspace):
    site = start_site(start_fpm(workers=16), PATIENT)
    requests, errors = wrk(site.nginx, f"/load.php?marks={workspace.path('marks')}", 64, 3)
    assert errors is None
    assert requests > (10 if sanitized() else 500)
    assert site.deferd.stop(30.0) == 0
    marks = [line.split() for line in workspace.lines("marks")]
    counted = Counter(what for what, _ in marks)
    registered = {id for what, id in marks if what == "registered"}
    ran = {id for what, id in marks if what == "ran"}
    assert registered == ran
    assert counted["registered"] == counted["ran"] == len(registered)
    assert len(registered) >= requests
    outcomes = Counter(request.outcome for request in site.deferd.requests)
    assert outcomes == {"completed": len(registered)}
    assert all(request.done == 1 for request in site.deferd.requests)


@pytest.mark.time_limit(60)
def test_plain_requests_under_load(start_site, start_fpm, workspace):
    """In a file, for standard error may lose lines when nobody reads it as fast."""
    log = ["--access-log", workspace.path("access"), "--access-format", "%{outcome}x"]
    site = start_site(start_fpm(workers=16), PATIENT, arguments=log)
    before = site.deferd.fds_at_rest()
    requests, errors = wrk(site.nginx, "/hello.php", 64, 2)
    assert errors is None
    assert requests > (100 if sanitized() else 2000)
    end_gracefully(site.nginx)
    site.deferd.wait_for_fds(before)
    wait_until(lambda: len(workspace.lines("access")) >= requests, what=f"{requests} lines")
    assert set(workspace.lines("access")) == {"answered"}


@pytest.mark.time_limit(60)
def test_clients_that_leave_under_load(start_site, start_fpm, workspace):
    """Three short runs, each torn off at its end: nothing stays behind, no slot is lost."""
    site = start_site(start_fpm(workers=4))
    before = site.deferd.fds_at_rest()
    for _ in range(3):
        wrk(site.nginx, f"/load.php?marks={workspace.path('marks')}", 100, 1)
    assert site.nginx.get("/hello.php").text == "hello\n"
    site.nginx.end()
    site.deferd.wait_for_fds(before)
    outcomes = {request.outcome for request in site.deferd.requests}
    assert outcomes <= {"completed", "client_gone", "answered"}
