"""Throughput of a one-line script: nginx to deferd to php-fpm against nginx to php-fpm.

Both share one php-fpm pool, with an nginx each; nobody writes a line per request. Rounds are interleaved, and the ratio of each round
is what counts, for the machine's mood changes from round to round. Prints figures, judges nothing.

    /usr/bin/python3 tests/bench/hello.py [ROUNDS [SECONDS]]
"""

import os
import pathlib
import re
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import Deferd, Fpm, Nginx, Workspace  # noqa: E402

WORKERS = 16
CONNECTIONS = (16, 64, 256)


def measure(url, connections, seconds):
    """Requests per second and the p99 latency in milliseconds."""
    threads = min(2, connections)
    argv = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    for trouble in ("Non-2xx", "Socket errors"):
        if trouble in out:
            print(out, file=sys.stderr)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    return rate, float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def compare(ways, connections, rounds, seconds):
    figures = {name: [] for name in ways}
    for _ in range(rounds):
        for name, url in ways.items():
            figures[name].append(measure(url, connections, seconds))
    return figures


def show(connections, figures):
    direct = figures["direct"]
    for name, rows in figures.items():
        rates = [rate for rate, _ in rows]
        ratios = [rate / base for (rate, _), (base, _) in zip(rows, direct)]
        tails = [tail / base for (_, tail), (_, base) in zip(rows, direct)]
        print(f"{connections:>11}  {name:<8} {statistics.median(rates):>9.0f} "
              f"{statistics.median(ratios):>6.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
              f" {statistics.median(tail for _, tail in rows):>8.2f} "
              f"{statistics.median(tails):>6.2f}")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with Workspace() as workspace:
        root = workspace.make_directory("www")
        with open(os.path.join(root, "hello.php"), "w", encoding="utf-8") as file:
            file.write("<?php echo 'hello';\n")
        with Fpm(workspace, workers=WORKERS) as fpm:
            listen = os.path.join(workspace.make_directory("deferd"), "deferd.sock")
            with Deferd(listen, fpm.address, WORKERS, log_level="warning") as deferd, \
                    Nginx(workspace, fpm.address, root, keepalive=0, name="direct") as direct, \
                    Nginx(workspace, deferd.address, root, keepalive=0, name="plain") as plain, \
                    Nginx(workspace, deferd.address, root, keepalive=64, name="kept") as kept:
                ways = {"direct": f"{direct.url}/hello.php",
                        "deferd": f"{plain.url}/hello.php",
                        "kept": f"{kept.url}/hello.php"}
                print(f"{rounds} rounds of {seconds} s, {WORKERS} workers, one-line script. direct: "
                      "nginx to php-fpm; deferd: with deferd\nbetween them, only fastcgi_pass "
                      "changed; kept: and nginx keeps its connections to deferd.")
                print("connections  way        req/s  ratio (min-max)     p99 ms  ratio")
                for connections in CONNECTIONS:
                    show(connections, compare(ways, connections, rounds, seconds))


if __name__ == "__main__":
    main()
