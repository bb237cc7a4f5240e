"""Waiting for a condition, with a deadline; never for a time to pass."""

import time


class DeadlinePassed(AssertionError):
    """What was waited for did not happen in time."""


def wait_until(condition, timeout=5.0, what=None, interval=0.002):
    """Calls condition until it answers something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise DeadlinePassed(f"not within {timeout} s: {name}")
        time.sleep(interval)
