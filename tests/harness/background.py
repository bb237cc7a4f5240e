"""One call in a thread of its own, and its result."""

import threading

from .waiting import DeadlinePassed


class Background:
    """Runs function(*args) at once; result() joins it and re-raises."""

    def __init__(self, function, *args, **kwargs):
        self._value = None
        self._error = None
        self._thread = threading.Thread(
            target=self._run, args=(function, args, kwargs), daemon=True
        )
        self._thread.start()

    def _run(self, function, args, kwargs):
        try:
            self._value = function(*args, **kwargs)
        except BaseException as error:  # pylint: disable=broad-except
            self._error = error

    @property
    def done(self):
        return not self._thread.is_alive()

    def result(self, timeout=10.0):
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise DeadlinePassed(f"a background call still runs after {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value
