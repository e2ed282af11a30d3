"""The final results of all strategies as a table in Markdown, LaTeX or CSV."""

import csv
import io
import re
from collections.abc import Callable

import numpy as np

import curvopt
from curvopt._names import shown
from curvopt.statistics import bca_interval

from ._formatting import booktabs, markdown, number
from ._results import hyperparameters_of, metrics_of, Results


# Text, a number, or a mean with its confidence interval.
_Cell = str | float | tuple[float, float, float]

_DIGITS = {"gradient-equivalents": ",.0f", "seconds": ".1f"}

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def words(results: Results, variable: str) -> str:
    """The readable name of a variable."""
    return results.data[variable].attrs.get("long_name", variable.replace("_", " "))


def _mean(x: np.ndarray) -> tuple[float, float, float]:
    """The mean over seeds and its BCa interval; nan where there is none."""
    if not np.isfinite(x).all():
        return np.nan, np.nan, np.nan
    low, high = bca_interval(x)
    return float(x.mean()), float(low), float(high)


def _records(results: Results) -> list[dict[str, _Cell]]:
    """One row for each strategy at its best point, by column."""
    data, judged = results.best, results.outline.metric
    metrics = sorted(metrics_of(data), key=lambda name: name != judged)
    final = {name: curvopt.final_metric(data, name) for name in metrics}
    found = []
    for name in map(str, data.strategy.values):
        one = data.sel(strategy=name)
        cells: dict[str, _Cell] = {"strategy": name}
        for knob in hyperparameters_of(results.data):
            cells[words(results, knob)] = float(one[knob])
        for metric in metrics:
            column = f"final {words(results, metric)}"
            cells[column] = _mean(final[metric].sel(strategy=name).values)
        spent = one.gradient_equivalents.isel(step=-1).mean("seed")
        diverged = int((one.diverged_at >= 0).sum())
        found.append(
            cells
            | {
                "gradient-equivalents": float(spent),
                "seconds": float(one.seconds),
                "diverged": f"{diverged} of {data.sizes['seed']}",
            }
        )
    return found


def _text(column: str, cell: _Cell) -> str:
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, tuple):
        return number(cell, _DIGITS.get(column, ".4g"), "–")
    mean, low, high = cell
    if not np.isfinite(mean):
        return "not finite"
    return f"{mean:.4g} [{low:.4g}, {high:.4g}]" if np.isfinite(low) else f"{mean:.4g}"


def _rows(results: Results) -> list[list[str]]:
    records = _records(results)
    return [list(records[0]), *([_text(*item) for item in row.items()] for row in records)]


def _in_latex(text: str) -> str:
    escaped = re.sub(
        r"[\\~^|<>&%$#_{}]", lambda m: _TEX.get(m[0], f"\\{m[0]}"), shown(text)
    )
    # A row follows `\\`, which would read a leading `[` or `*` as its argument.
    escaped = re.sub(r"^(?=[\[*])", "{}", escaped)
    return escaped.replace("–", "--")


def _latex(results: Results) -> str:
    """A `tabular` for the package booktabs."""
    rows = [list(map(_in_latex, row)) for row in _rows(results)]
    return booktabs(rows, "l" + "r" * (len(rows[0]) - 1))


def _csv(results: Results) -> str:
    """All digits, with two further columns for the interval of a mean."""
    text = io.StringIO()
    rows: list[dict[str, str | float]] = []
    for record in _records(results):
        row: dict[str, str | float] = {}
        for column, x in record.items():
            if isinstance(x, tuple):
                row |= dict(zip((column, f"{column}, low", f"{column}, high"), x))
            else:
                row[column] = x
        rows.append(row)
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Results], str]] = {
    "markdown": lambda results: markdown(_rows(results)),
    "latex": _latex,
    "csv": _csv,
}
