"""Compares nginx to deferd to php-fpm with nginx to php-fpm.

    /usr/bin/python3 tests/bench/bench.py [--rounds N] [--seconds N] [--only NAME]... [--out DIR]

Sides take turns, in an order that turns from round to round. Judges figures, but ends with 0
whatever they are. docs/performance.md says what is measured.
"""

import argparse
import os
import pathlib
import platform
import resource
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import report  # noqa: E402
from comparisons import COMPARISONS  # noqa: E402
from harness import Fpm, Workspace  # noqa: E402
from harness.nginx import find_binary as find_nginx  # noqa: E402
from sites import Site  # noqa: E402

OUT = pathlib.Path(__file__).resolve().parents[2] / "build" / "bench"


def run(comparison, rounds, seconds):
    """For each side the figures of each round."""
    figures = {side: [] for side in comparison.sides}
    with Workspace() as workspace:
        sites = {side: way and workspace.enter(Site(workspace, f"side-{number}", way))
                 for number, (side, (way, _)) in enumerate(comparison.sides.items())}
        for number in range(min(rounds, comparison.rounds or rounds)):
            for side in list(comparison.sides)[:: -1 if number % 2 else 1]:
                print(f"{comparison.name}: round {number + 1}, {side}", file=sys.stderr, flush=True)
                _, measure = comparison.sides[side]
                figures[side].append(measure(sites[side], seconds))
    return figures


def version(argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).splitlines()[0]


def machine():
    return {
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "php": Fpm.version(),
        "nginx": version([find_nginx(), "-v"]),
    }


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of a run of wrk")
    parser.add_argument("--only", action="append", choices=[c.name for c in COMPARISONS],
                        metavar="NAME", help=", ".join(c.name for c in COMPARISONS))
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    return parser.parse_args()


def raise_files():
    """Thousands of connections are held here and in what is started here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main():
    wanted = options()
    raise_files()
    rows = []
    for comparison in COMPARISONS:
        if not wanted.only or comparison.name in wanted.only:
            rows += report.rows_of(comparison, run(comparison, wanted.rounds, wanted.seconds))
    wanted.out.mkdir(parents=True, exist_ok=True)
    table = report.table(rows)
    (wanted.out / "table.md").write_text(table, encoding="utf-8")
    report.write_json(wanted.out / "results.json", machine(),
                      {"rounds": wanted.rounds, "seconds": wanted.seconds}, rows)
    report.plot(wanted.out / "plot.svg", rows)
    print(table, end="")


if __name__ == "__main__":
    main()
