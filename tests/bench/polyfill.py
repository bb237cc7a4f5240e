"""How many instructions php/polyfill.php costs a request that does not call its function.

    /usr/bin/python3 tests/bench/polyfill.py

Counted by callgrind in a php-fpm worker with opcache that serves a one-line script, in two runs of
different length: the difference leaves out what is there at start and end. The kernel's instructions
are not counted.
"""

import pathlib
import re
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import FcgiClient, Fpm, Workspace, wait_until  # noqa: E402
from sites import PHP  # noqa: E402

POLYFILL = pathlib.Path(__file__).resolve().parents[2] / "php" / "polyfill.php"
SHORT, LONG = 100, 1100
SLOW = 60.0


class CountedFpm(Fpm):
    """php-fpm under callgrind, which writes a file for each process."""

    def __init__(self, workspace, **options):
        super().__init__(workspace, workers=1, options={"process_control_timeout": "60s"},
                         **options)
        self._profiles = workspace.path("callgrind")

    def spawn(self, argv, *rest):
        out = f"--callgrind-out-file={self._profiles}.%p"
        super().spawn(["valgrind", "--tool=callgrind", out, *argv], *rest)

    def wait_for_line(self, pattern, timeout=SLOW, after=0):
        return super().wait_for_line(pattern, max(timeout, SLOW), after)

    def instructions(self):
        """Those of the one worker, once php-fpm has ended."""
        (worker,) = self.workers()
        self.signal(signal.SIGQUIT)
        self.wait(SLOW)
        with open(f"{self._profiles}.{worker}", encoding="utf-8") as file:
            return int(re.search(r"^(?:totals|summary): (\d+)", file.read(), re.MULTILINE)[1])


def count(requests, php_ini):
    """Instructions of a worker that serves so many requests on one connection."""
    with Workspace() as workspace:
        fpm = workspace.enter(CountedFpm(workspace, php_ini=php_ini))
        wait_until(fpm.workers, SLOW, "a worker")
        with FcgiClient(fpm.address, SLOW) as client:
            for _ in range(requests):
                response = client.request(uri="/hello.php", script=str(PHP / "hello.php"),
                                          keep=True)
                if response.body != b"hello":
                    raise AssertionError(response)
        return fpm.instructions()


def main():
    with Workspace() as workspace:
        empty = workspace.write("empty.php", "<?php\n")
        disabled = {"disable_functions": "fastcgi_finish_request"}
        kinds = {
            "php-fpm as it is": {},
            "with an empty auto_prepend_file": {**disabled, "auto_prepend_file": empty},
            "with the polyfill": {**disabled, "auto_prepend_file": POLYFILL},
        }
        for name, php_ini in kinds.items():
            instructions = (count(LONG, php_ini) - count(SHORT, php_ini)) / (LONG - SHORT)
            print(f"{name:<34}{instructions:>10,.0f} instructions a request", flush=True)


if __name__ == "__main__":
    main()
