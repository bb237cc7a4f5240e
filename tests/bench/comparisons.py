"""What is compared with what, and what is wanted of it. A table: the work is in measures.py."""

from dataclasses import dataclass, replace
from functools import partial

import measures
from sites import Way

# The figures, as tables name and write them.
FIGURES = {
    "rate": ("requests/s", ".0f"),
    "mb_s": ("MB/s", ".0f"),
    "p50_ms": ("p50, ms", ".2f"),
    "p99_ms": ("p99, ms", ".2f"),
    "timeouts": ("time-outs", ".0f"),
    "failed": ("failed requests", ".0f"),
    "cpu": ("CPU µs a request, all", ".1f"),
    "cpu_nginx": ("CPU µs, nginx", ".1f"),
    "cpu_deferd": ("CPU µs, deferd", ".1f"),
    "cpu_fpm": ("CPU µs, php-fpm", ".1f"),
    "memory": ("MB, all", ".0f"),
    "memory_nginx": ("MB, nginx", ".1f"),
    "memory_deferd": ("MB, deferd", ".1f"),
    "memory_fpm": ("MB, php-fpm", ".0f"),
    "completed": ("phases completed", ".0f"),
    "under_way": ("under way at the last response", ".0f"),
    "kib_each": ("KiB each", ".2f"),
}
CPU = ("cpu", "cpu_nginx", "cpu_deferd", "cpu_fpm")
MEMORY = ("memory_nginx", "memory_deferd", "memory_fpm", "under_way")


@dataclass(frozen=True)
class Goal:
    """A bound for the ratio of a figure to the baseline's (the rounds' median counts), or, with
    `ratio` false, for the figure itself (every round counts)."""

    figure: str
    least: float = None
    most: float = None
    ratio: bool = True


@dataclass(frozen=True)
class Comparison:
    """Sides are pairs of a Way and a measure, by name; of several, the last is the baseline."""

    name: str
    title: str
    sides: dict
    goals: tuple
    also: tuple = ()
    """Figures that are shown without a goal."""
    rounds: int = None
    """At most so many: memory does not depend on the machine's mood."""


# Straight to php-fpm: as distributed, and with connections kept. By deferd: with only fastcgi_pass
# changed, and as nginx/deferd-keepalive.conf has it.
DIRECT = Way()
DIRECT_KEPT = Way(keepalive=32)
PLAIN = Way(deferd=())
KEPT = Way(deferd=(), keepalive=256)


def hello(connections, rate, also=(), name=None, title="", backlog=511):
    measure = partial(measures.requests, connections=connections)
    ways = {
        "deferd": replace(PLAIN, backlog=backlog),
        "kept": replace(KEPT, backlog=backlog),
        "php-fpm": replace(DIRECT, backlog=backlog),
    }
    return Comparison(
        name or f"hello-{connections}",
        f"one-line script, {connections} connections{title}",
        {side: (way, measure) for side, way in ways.items()},
        (Goal("rate", least=rate), Goal("p99_ms", most=1.0)),
        also=(*also, "p50_ms", "failed"),
    )


def transfer(name, title, **options):
    measure = partial(measures.requests, **options)
    return Comparison(name, title, {"deferd": (PLAIN, measure), "php-fpm": (DIRECT, measure)},
                      (Goal("mb_s", least=1.0),), also=("cpu", "failed"))


def flood(flooders):
    """Half of the workers may be in deferred phases of the flood, one way or the other."""
    def measure(path):
        return partial(measures.beside_flood, flood=path, flooders=flooders)

    return Comparison(
        f"flood-{flooders}",
        f"plain requests while {flooders} clients ask for phases of 500 ms",
        {
            "class": (Way(deferd=("--class", "flood,max_workers=50%")),
                      measure("/defer.php?least=500&most=500&class=flood")),
            "budget": (Way(deferd=("--defer-max-workers", "50%")),
                       measure("/defer.php?least=500&most=500")),
            "php-fpm": (DIRECT, measure("/finish.php?least=500&most=500")),
        },
        (Goal("p99_ms", most=0.1),),
        also=("p50_ms", "failed"),
    )


COMPARISONS = [
    hello(16, rate=1.1),
    hello(64, rate=1.0, also=CPU),
    hello(256, rate=1.0),
    hello(1000, rate=1.0),
    hello(1000, rate=1.0, name="hello-1000-backlog", title=", listen.backlog 4096", backlog=4096),
    Comparison(
        "kept-256",
        "one-line script, 256 connections, fastcgi_keep_conn on both sides",
        {"deferd": (KEPT, measures.starving), "php-fpm": (DIRECT_KEPT, measures.starving)},
        (Goal("timeouts", most=0, ratio=False), Goal("p99_ms", most=0.1)),
        also=("rate", "failed"),
    ),
    transfer("response-1", "responses of 1 MiB", path="/bytes.php?mib=1", connections=8),
    transfer("response-50", "responses of 50 MiB", path="/bytes.php?mib=50", connections=2),
    transfer("upload-10", "uploads of 10 MiB", path="/upload.php", connections=2, body=10 << 20),
    Comparison(
        "callback",
        "a script with a callback of 100 ms, and without it; 50 requests/s",
        {"with": (PLAIN, partial(measures.paced, path="/defer.php?least=100&most=100")),
         "without": (PLAIN, partial(measures.paced, path="/defer.php"))},
        (Goal("p50_ms", most=1.05), Goal("p99_ms", most=1.05)),
        also=("failed",),
    ),
    flood(4),
    flood(32),
    Comparison(
        "phases-800",
        "800 deferred phases of 1 to 3 s on one core",
        {"deferd": (Way(deferd=(), workers=800, log_level="notice", one_core=True),
                    partial(measures.phases, count=800, path="/defer.php?least=1000&most=3000"))},
        (Goal("completed", least=800, ratio=False), Goal("memory", most=1000, ratio=False)),
        also=MEMORY,
        rounds=2,
    ),
    Comparison(
        "idle-10000",
        "10,000 idle connections of a web server: deferd's memory",
        {"deferd": (None, partial(measures.idle_connections, count=10000))},
        (Goal("kib_each", most=2, ratio=False),),
        rounds=2,
    ),
    Comparison(
        "deferred-8000",
        "8,000 deferred phases: deferd's memory",
        {"deferd": (None, partial(measures.deferred_phases, count=8000))},
        (Goal("kib_each", most=6, ratio=False),),
        rounds=2,
    ),
]
