"""Runs wrk. Its figures come from wrk.lua, exact, not from the rounded text it prints."""

import contextlib
import json
import pathlib
import subprocess

SCRIPT = pathlib.Path(__file__).with_name("wrk.lua")


def _argv(url, connections, seconds, timeout=10, body=0, pause_ms=0):
    return ["wrk", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s",
            "--timeout", f"{timeout}s", "-s", str(SCRIPT), url, "--", str(body), str(pause_ms)]


def run(url, connections, seconds, **options):
    """Figures of a run: requests a second that succeeded, milliseconds, failures by kind.

    `timeout`: seconds after which a response counts as timed out, and no more as a latency; `body`:
    bytes that each request uploads; `pause_ms`: how long a connection rests before each request.
    """
    argv = _argv(url, connections, seconds, **options)
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    raw = json.loads(out.splitlines()[-1])
    if raw["requests"] == 0:
        raw["p50_ms"] = raw["p99_ms"] = raw["seconds"] * 1000  # at least that
    good = raw["requests"] - raw["status"]
    failed = raw["status"] + raw["timeouts"] + raw["broken"]
    return {
        "rate": good / raw["seconds"],
        "mb_s": (raw["bytes"] + good * options.get("body", 0)) / raw["seconds"] / 1e6,
        "p50_ms": raw["p50_ms"],
        "p99_ms": raw["p99_ms"],
        "failed": failed,
        "timeouts": raw["timeouts"],
        "requests": raw["requests"],
    }


@contextlib.contextmanager
def running(url, connections, seconds):
    """Load in the background for as long as the block takes, which is to be below `seconds`."""
    argv = _argv(url, connections, seconds)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
