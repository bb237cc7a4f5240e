"""Results as rows, judged; as a table, as JSON, and as a plot."""

import json
import math
import statistics
import subprocess
from dataclasses import dataclass

from comparisons import FIGURES

HEAD = ("comparison", "figure", "A", "median (min - max)", "B", "median (min - max)",
        "A/B (min - max)", "goal", "")


@dataclass
class Row:
    """One figure of one side, against the baseline's if there is one."""

    comparison: object
    figure: str
    side: str
    values: list
    baseline: str
    base_values: list
    goal: object = None

    @property
    def ratios(self):
        """Round by round, for the machine's mood changes from round to round."""
        return [_ratio(a, b) for a, b in zip(self.values, self.base_values or ())]

    @property
    def met(self):
        """None without a goal."""
        if self.goal is None:
            return None
        judged = [statistics.median(self.ratios)] if self.goal.ratio else self.values
        return all((self.goal.least is None or value >= self.goal.least)
                   and (self.goal.most is None or value <= self.goal.most) for value in judged)

    def cells(self):
        unit, form = FIGURES[self.figure]
        return (self.comparison.name, unit, self.side, _spread(self.values, form),
                self.baseline or "", _spread(self.base_values, form), _spread(self.ratios, ".2f"),
                _goal(self.goal), {None: "", True: "met", False: "missed"}[self.met])

    def as_json(self):
        return {
            "comparison": self.comparison.name, "figure": self.figure, "a": self.side,
            "a_values": self.values, "b": self.baseline, "b_values": self.base_values,
            "ratios": [value if math.isfinite(value) else None for value in self.ratios],
            "goal": _goal(self.goal), "met": self.met,
        }


def _ratio(a, b):
    if b == 0:
        return 1.0 if a == 0 else math.inf
    return a / b


def _spread(values, form):
    if not values:
        return ""
    median, least, most = (format(value, form) for value in
                           (statistics.median(values), min(values), max(values)))
    return median if least == most else f"{median} ({least} - {most})"


def _goal(goal):
    if goal is None:
        return ""
    bound = f">= {goal.least:g}" if goal.most is None else f"<= {goal.most:g}"
    return f"A/B {bound}" if goal.ratio else f"A {bound}"


def rows_of(comparison, figures):
    """figures: for each side the figures of each round."""
    *others, last = comparison.sides
    pairs = [(side, last) for side in others] or [(last, None)]
    wanted = [*((goal.figure, goal) for goal in comparison.goals),
              *((figure, None) for figure in comparison.also)]
    rows = []
    for side, baseline in pairs:
        for figure, goal in wanted:
            values = [round_[figure] for round_ in figures[side] if figure in round_]
            base = [round_[figure] for round_ in figures[baseline] if figure in round_] \
                if baseline else []
            failures = figure in ("failed", "timeouts") and not any(values + base)
            if goal is not None or not failures:
                rows.append(Row(comparison, figure, side, values, baseline, base, goal))
    return rows


def table(rows):
    """Markdown that can be read as it is."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    lines.insert(1, tuple("-" * width for width in widths))
    padded = ([cell.ljust(width) for cell, width in zip(line, widths)] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)


def write_json(path, machine, options, rows):
    content = {"machine": machine, "options": options, "rows": [row.as_json() for row in rows]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, allow_nan=False)


# --- the plot -------------------------------------------------------------------------------

PLOT = """\
set terminal svg size 900,{height} font "sans,11"
set output "{path}"
set title "A/B: median and range of the rounds"
set key outside bottom horizontal
set logscale x
set xrange [{least}:{most}]
set yrange [{count} + 0.5:0.5]
set ytics ({labels})
set grid x
set lmargin 36
set arrow from 1, graph 0 to 1, graph 1 nohead lc "gray"
$met << END
{met}
END
$missed << END
{missed}
END
$goals << END
{goals}
END
plot $goals using 1:2 with points pt 2 ps 1.2 lc "black" title "goal", \\
     $met using 1:2:3:4 with xerrorbars pt 7 ps 0.6 lc "dark-green" title "met", \\
     $missed using 1:2:3:4 with xerrorbars pt 7 ps 0.6 lc "red" title "missed"
"""


def plot(path, rows):
    """Each goal for a ratio: where the rounds' ratios lie, and where they should."""
    shown = [row for row in rows if row.goal is not None and row.goal.ratio]
    if not shown:
        return
    lines = {True: [], False: [], "goal": []}
    low, high = 1.0, 1.0
    for number, row in enumerate(shown, 1):
        ratios = [min(max(ratio, 1e-4), 1e4) for ratio in row.ratios]
        bound = row.goal.least if row.goal.most is None else row.goal.most
        lines[row.met].append(
            f"{statistics.median(ratios)} {number} {min(ratios)} {max(ratios)}")
        lines["goal"].append(f"{bound} {number}")
        low, high = min(low, bound, *ratios), max(high, bound, *ratios)
    labels = ", ".join(f'"{row.comparison.name}: {row.side}, {FIGURES[row.figure][0]}" {number}'
                       for number, row in enumerate(shown, 1))
    script = PLOT.format(height=120 + 18 * len(shown), path=path, count=len(shown), labels=labels,
                         least=low / 1.5, most=high * 1.5, goals="\n".join(lines["goal"]),
                         met="\n".join(lines[True]), missed="\n".join(lines[False]))
    subprocess.run(["gnuplot"], input=script, check=True, text=True)
