"""Makes docs/frameworks.md, from visits to each application.

    /usr/bin/python3 -B tests/frameworks/table.py >docs/frameworks.md    (make frameworks-doc)
"""

import pathlib
import platform
import re
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

# pylint: disable=wrong-import-position
from frameworks.catalog import FRAMEWORKS, KINDS  # noqa: E402
from frameworks.site import Site  # noqa: E402
from harness import Fpm, Workspace  # noqa: E402

ROUNDS = 3
CALLBACK_MS = 100

HEAD = """\
# What each framework's application does behind deferd

Made by `make frameworks-doc`: the applications in [php/examples](../php/examples) behind nginx,
deferd and php-fpm with PHP {php}, on {system}.

Each request but the last one defers two callbacks, `first` and `second`, of {ms} ms each.

- **response**: until the client has the whole response, the median of {rounds} visits.
- **callbacks**: which were run, in their order. Each is held back until the client has the whole
  response: one in front of it would let no response come.
- **same worker**: whether the worker that answered, by php-fpm's access log, ran all of them.
- **deferd shows**: the request's outcome in the log, and its tasks as `deferctl list` has them.

On `HEAD` PHP drops all output, reports to deferd too (`unreported`). The compressed response is
text of 20 kB or more, and nginx compresses it; for PHP's own compression see the limits in
[php/README.md](../php/README.md#limits). `answered` is a request without a deferred phase,
`completed` alone one in whose phase there was nothing to do.
"""


def section(framework, version):
    return f"## {framework.title} ({version})"


def row(kind, visits):
    """One line of a table; of several visits, the last tells all but the time."""
    seen = visits[-1]
    cells = [
        kind.name,
        str(seen.status),
        f"{statistics.median(each.response_ms for each in visits):.1f} ms",
        ", ".join(seen.callbacks) or "–",
        ("yes" if seen.same_worker else "**no**") if seen.callbacks else "–",
        seen.outcome,
    ]
    return "| " + " | ".join(cells) + " |"


def table(site, rounds=1, ms=0):
    """A framework's table, as lines."""
    lines = ["| | status | response | callbacks | same worker | deferd shows |",
             "|---|---|---|---|---|---|"]
    return lines + [row(kind, [site.visit(kind, ms) for _ in range(rounds)]) for kind in KINDS]


def without_times(lines):
    """The same, as any run has to see it."""
    return [re.sub(r"\d+\.\d ms", "… ms", line) for line in lines]


def claims(text):
    """The tables of the document, by framework."""
    parts = re.split(r"^## (.+) \(.+\)$", text, flags=re.MULTILINE)
    return {title: [line for line in body.splitlines() if line.startswith("|")]
            for title, body in zip(parts[1::2], parts[2::2])}


def document():
    print(HEAD.format(php=Fpm.version(), system=platform.freedesktop_os_release()["PRETTY_NAME"],
                      ms=CALLBACK_MS, rounds=ROUNDS))
    for framework in FRAMEWORKS:
        with Workspace() as workspace:
            site = Site(workspace, framework)
            table(site)  # compiles the scripts, so that no figure shows it
            print(section(framework, site.version), "", *table(site, ROUNDS, CALLBACK_MS), "",
                  sep="\n")


if __name__ == "__main__":
    document()
