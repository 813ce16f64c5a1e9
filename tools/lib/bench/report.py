"""Figures as a person or a program reads them."""

import json
import statistics


class Samples:
    """The values of one figure for one monitor, over all runs."""

    def __init__(self, values):
        self.values = list(values)

    @property
    def minimum(self):
        """The least."""
        return min(self.values)

    @property
    def median(self):
        """The middle."""
        return statistics.median(self.values)

    @property
    def maximum(self):
        """The greatest."""
        return max(self.values)


def rows(results, monitors):
    """The table: a header and a row for each figure; `results` maps a figure to each monitor's values, by name."""
    header = ["figure", "unit"] + [f"{one.name} min / median / max" for one in monitors]
    header += ["ratio of medians"] if len(monitors) > 1 else []
    table = [header + ["aim"]]
    for figure, values in results.items():
        samples = [Samples(values[one.name]) for one in monitors]
        row = [figure.name, figure.unit]
        for one in samples:
            row.append(" / ".join(_number(v, figure.digits) for v in (one.minimum, one.median, one.maximum)))
        if len(samples) > 1:
            other = samples[1].median
            row.append(f"{samples[0].median / other:.2f}" if other else "-")
        table.append(row + [figure.aim])
    return table


def text(table):
    """The table in columns."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    return "\n".join(lines)


def whole(results, monitors, about, for_a_program):
    """The facts about the machine and the table; or everything as JSON."""
    if for_a_program:
        return as_json(results, about)
    facts = "\n".join(f"{name}: {value}" for name, value in about.items())
    return facts + "\n\n" + text(rows(results, monitors))


def markdown(table, about):
    """The table as Markdown, under the facts about the machine."""
    lines = [f"- {name}: {value}" for name, value in about.items()] + [""]
    lines += ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(len(about) + 2, "| " + " | ".join("---" for _ in table[0]) + " |")
    return "\n".join(lines) + "\n"


def as_json(results, about):
    """Everything, for a program: facts, and every value of every run."""
    figures = [
        {"name": figure.name, "unit": figure.unit, "aim": figure.aim, "values": values}
        for figure, values in results.items()
    ]
    return json.dumps({"about": about, "figures": figures}, indent=2)


def _number(value, digits):
    return f"{value:,.{digits}f}"
