"""The measurements as tables in Markdown, readable as text too."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .._formatting import markdown
from ._bench import is_left_out, Row


class Column(NamedTuple):
    """A column of a table: header, field, and format."""

    header: str
    field: str
    form: str = ""


class Layout(NamedTuple):
    """The tables of a section: one for each combination of the fields `by`."""

    title: str
    text: str
    by: tuple[str, ...]
    columns: tuple[Column, ...]


LAYOUTS = {
    "correctness": Layout(
        "Correctness",
        "Errors are relative to float64 on the host along the same direction; for lanes, "
        "to the same study on the host. FLOPs are XLA's count for a product, divided by "
        "2 n³.",
        (),
        (
            Column("what", "what"),
            Column("method", "method"),
            Column("precision", "precision"),
            Column("arithmetic", "arithmetic"),
            Column("error", "relative_error", ".1e"),
            Column("FLOPs counted", "flops_counted", ".2f"),
        ),
    ),
    "cost": Layout(
        "Cost",
        "Value, gradient and curvature relative to value and gradient: medians and "
        "quartiles of ratios within a repetition. The difference of a curvature is "
        "relative to the adjoint method's.",
        ("model", "precision"),
        (
            Column("method", "method"),
            Column("ms", "milliseconds", ".2f"),
            Column("time", "time", ".2f"),
            Column("from", "time_low", ".2f"),
            Column("to", "time_high", ".2f"),
            Column("FLOPs", "flops_ratio", ".2f"),
            Column("temporaries", "temporary_ratio", ".2f"),
            Column("all memory", "total_ratio", ".2f"),
            Column("lowering, s", "lower_seconds", ".1f"),
            Column("compiling, s", "compile_seconds", ".1f"),
            Column("curvature", "curvature", ".6g"),
            Column("difference", "difference", ".0e"),
        ),
    ),
    "throughput": Layout(
        "Throughput",
        "Steps per second over all lanes, without compilation, and relative to the best "
        "loop over runs. Loops ran only some of the lanes, and are extrapolated.",
        ("problem", "strategy"),
        (
            Column("way", "way"),
            Column("steps per second", "lane_steps_a_second", ",.0f"),
            Column("over loop", "over_loop", ".2f"),
            Column("lanes measured", "lanes_measured"),
            Column("steps", "steps"),
        ),
    ),
    "products": Layout(
        "Products",
        "Times with two and with three products in the third sweep, relative to the "
        "gradient's, and the ratio of two to three for the sweep alone. Multiplications "
        "are per number read or written. First, other ways to compute inner products.",
        ("pairing",),
        (
            Column("what", "what"),
            Column("precision", "precision"),
            Column("multiplications", "multiplications", ".0f"),
            Column("two", "two", ".2f"),
            Column("three", "three", ".2f"),
            Column("sweep, two / three", "sweep_ratio", ".2f"),
            Column("difference", "difference", ".0e"),
            Column("time", "time", ".2f"),
            Column("temporaries", "temporary_ratio", ".2f"),
        ),
    ),
    "compile": Layout(
        "Compilation",
        "Seconds to compile a study's programs, to run its steps, and in total.",
        (),
        (
            Column("strategy", "strategy"),
            Column("compiling", "compile_seconds", ".1f"),
            Column("steps", "steps_seconds", ".2f"),
            Column("everything", "all_seconds", ".1f"),
        ),
    ),
}


def _cell(row: Row, column: Column) -> str:
    value = row.get(column.field, "")
    if column.field == "milliseconds" and "seconds" in row:
        value = 1e3 * row["seconds"]
    if isinstance(value, float) and not math.isfinite(value):
        return "-" if not row.get("wrong") else "NAN"
    if isinstance(value, (int, float)) and column.form:
        text = format(value, column.form)
        return f"{text} WRONG" if row.get("wrong") and "error" in column.field else text
    return str(value)


def _table(layout: Layout, rows: Sequence[Row]) -> str:
    columns = [c for c in layout.columns if any(_cell(row, c) for row in rows)]
    failed = any("failure" in row for row in rows)
    lines = [[*(c.header for c in columns), *(["failure"] if failed else [])]]
    for row in rows:
        last = [row.get("failure", "")] if failed else []
        lines.append([*(_cell(row, c) for c in columns), *last])
    return markdown(lines)


# The fields that identify a row, in order.
_LABELS = (
    "what",
    "model",
    "problem",
    "strategy",
    "way",
    "method",
    "pairing",
    "precision",
)


def _labels(row: Row) -> list[str]:
    return [str(row[k]) for k in _LABELS if row.get(k)]


def _left_out(rows: Sequence[Row]) -> str:
    """One line for all rows that were left out, grouped by their further labels."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        first, *others = _labels(row)
        groups.setdefault(", ".join(others), []).append(first)
    names = "; ".join(
        (f"{others}: " if others else "") + ", ".join(firsts)
        for others, firsts in groups.items()
    )
    return f"Left out for lack of time, {len(rows)} of them: {names}."


def section_report(name: str, rows: Sequence[Row]) -> str:
    """The tables of a section, and a list of what was left out."""
    layout = LAYOUTS[name]
    groups: dict[tuple, list[Row]] = {}
    missing = [row for row in rows if is_left_out(row)]
    for row in rows:
        if is_left_out(row):
            continue
        groups.setdefault(tuple(row.get(k, "") for k in layout.by), []).append(row)
    parts = [f"## {layout.title}", layout.text]
    for key, own in groups.items():
        heading = ", ".join(x for x in key if x)
        parts += [f"### {heading}"] if heading else []
        parts.append(_table(layout, own))
    parts += [_left_out(missing)] if missing else []
    return "\n\n".join(parts)


def _described(row: Row) -> str:
    return ", ".join(_labels(row))


def wrong(sections: Mapping[str, Sequence[Row]]) -> list[str]:
    """Every value that is wrong or not a number."""
    return [
        f"{name}: {_described(row)}: {row.get('relative_error', row.get('curvature'))}"
        for name, rows in sections.items()
        for row in rows
        if row.get("wrong")
    ]


def _verdict(sections: Mapping[str, Sequence[Row]]) -> str:
    found = wrong(sections)
    if found:
        lines = "\n".join(f"- {line}" for line in found)
        return f"**WRONG VALUES, {len(found)}:**\n\n{lines}"
    return "No value is wrong." if sections else "Nothing was measured."


def report(machine: Mapping[str, Any], sections: Mapping[str, Sequence[Row]]) -> str:
    """The whole report."""

    def lines() -> Iterator[str]:
        yield f"# On {machine['device']}"
        versions = ", ".join(f"{k} {x}" for k, x in machine["versions"].items())
        yield f"```\n{machine['command']}\n```"
        yield f"{versions}."
        if machine["missing"]:
            missing = "; ".join(f"{k}: {x}" for k, x in machine["missing"].items())
            yield f"Not installed: {missing}."
        yield _verdict(sections)
        for name, rows in sections.items():
            yield section_report(name, rows)

    return "\n\n".join(lines()) + "\n"
