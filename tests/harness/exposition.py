"""Prometheus's text format, read strictly enough to notice what is wrong in it."""

import re
from collections import defaultdict
from dataclasses import dataclass, field

SAMPLE = re.compile(
    r'^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)'
    r'(?:\{(?P<labels>[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*)\})?'
    r' (?P<value>\S+)$'
)
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"')


@dataclass
class Family:
    """A metric with all its samples."""

    type: str = ""
    help: str = ""
    samples: dict = field(default_factory=dict)
    """(name, labels as a sorted tuple of pairs): value"""


def _unescape(text):
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)


def parse(text):
    """The families by name. Raises on whatever a strict reader would not take."""
    families = defaultdict(Family)
    current = None
    if not text.endswith("\n"):
        raise AssertionError("the last line is not complete")
    for line in text.splitlines():
        if line.startswith("# "):
            _, kind, name, rest = line.split(" ", 3)
            if kind == "HELP":
                if name in families:
                    raise AssertionError(f"{name} comes twice")
                families[name].help = rest
                current = name
            elif kind == "TYPE" and name == current:
                families[name].type = rest
            else:
                raise AssertionError(f"out of place: {line}")
            continue
        match = SAMPLE.match(line)
        if not match:
            raise AssertionError(f"no sample: {line!r}")
        base = re.sub(r"_(bucket|sum|count)$", "", match["name"])
        if current not in (match["name"], base):
            raise AssertionError(f"not below its family: {line}")
        labels = tuple(sorted((k, _unescape(v)) for k, v in LABEL.findall(match["labels"] or "")))
        key = (match["name"], labels)
        if key in families[current].samples:
            raise AssertionError(f"comes twice: {line}")
        families[current].samples[key] = float(match["value"])
    return dict(families)


class Metrics:
    """One answer of /metrics, to look values up in."""

    def __init__(self, text):
        self.text = text
        self.families = parse(text)

    def value(self, name, **labels):
        """The sum of all samples of this name that have (at least) these labels."""
        wanted = set(labels.items())
        found = [
            value
            for family in self.families.values()
            for (sample, pairs), value in family.samples.items()
            if sample == name and wanted <= set(pairs)
        ]
        if not found:
            raise AssertionError(f"no sample of {name} with {labels}")
        return sum(found)
