"""What Deferd\\Defer costs a request that defers nothing.

    /usr/bin/python3 tests/bench/defer_cost.py

The same script with one step more each: without Defer; with our autoloader, which an application with
Composer does not need; with a Defer constructed; with run() called, which finds nothing to run. Opcache
is on. Instructions are counted by callgrind in php-cgi, which runs the script many times (-T): the
difference of two runs leaves out what is there at start and end. The kernel's are not counted. The
time is the CPU time of a php-fpm worker, the kernel's included, in rounds that take turns.
"""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import FcgiClient, Fpm, Workspace  # noqa: E402
from sites import PHP  # noqa: E402

STEPS = ["without", "autoload.php", "new Defer()", "run()"]
SCRIPT = str(PHP / "cost.php")
SHORT, LONG = 200, 2200
ROUNDS, REQUESTS = 15, 2000


def php_ini():
    """The php.ini-production that Debian installs, without the extensions beside it."""
    return sorted(pathlib.Path("/etc/php").glob("*/cgi/php.ini"))[-1]


def instructions(step, times):
    """Of a php-cgi that runs the script so many times."""
    with tempfile.NamedTemporaryFile() as profile:
        argv = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile.name}",
                "php-cgi", "-c", str(php_ini()), "-d", "zend_extension=opcache.so",
                "-d", "opcache.enable=1", "-T", f"1,{times}"]
        env = {"PATH": os.environ["PATH"], "PHP_INI_SCAN_DIR": "", "REDIRECT_STATUS": "200",
               "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": SCRIPT, "QUERY_STRING": f"step={step}"}
        run = subprocess.run(argv, env=env, capture_output=True, check=True)
        if run.stdout.count(b"hello") < times:
            raise AssertionError(run.stdout)
        text = pathlib.Path(profile.name).read_text("utf-8")
    return int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[1])


def cpu_time(pid):
    """Nanoseconds on a CPU."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0])


def microseconds(client, worker, step):
    """The worker's CPU time a request."""
    before = cpu_time(worker)
    for _ in range(REQUESTS):
        response = client.request(uri=f"/cost.php?step={step}", script=SCRIPT, keep=True)
        if response.body != b"hello":
            raise AssertionError(response)
    return (cpu_time(worker) - before) / 1000 / REQUESTS


def times():
    """The medians over all rounds."""
    rounds = [[] for _ in STEPS]
    with Workspace() as workspace:
        fpm = workspace.enter(Fpm(workspace, workers=1))
        with FcgiClient(fpm.address) as client:
            worker = fpm.workers()[0]
            for number in range(ROUNDS + 1):
                for step, measured in enumerate(rounds):
                    taken = microseconds(client, worker, step)
                    if number > 0:  # the first one warms up
                        measured.append(taken)
    return [statistics.median(measured) for measured in rounds]


def main():
    counted = [(instructions(step, LONG) - instructions(step, SHORT)) / (LONG - SHORT)
               for step in range(len(STEPS))]
    timed = times()
    print(f"{'a request, php ' + Fpm.version():<24}{'instructions':>14}{'':>10}{'CPU us':>10}")
    for step, name in enumerate(STEPS):
        more = f"{counted[step] - counted[0]:+.0f}" if step else ""
        longer = f"{timed[step] - timed[0]:+.2f}" if step else ""
        print(f"{name:<24}{counted[step]:14.0f}{more:>10}{timed[step]:10.2f}{longer:>8}")


if __name__ == "__main__":
    main()
