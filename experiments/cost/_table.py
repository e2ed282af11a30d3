"""One case as a Markdown table that reads well as text too."""

import math

import xarray as xr

from ._variants import GRADIENT


_HEADER = (
    "method",
    "time",
    "quartiles",
    "FLOPs",
    "temporaries",
    "all memory",
    "compilation",
    "relative error",
)


def _number(x: float, form: str) -> str:
    return format(x, form) if math.isfinite(x) else "-"


def _cells(row: xr.Dataset) -> tuple[str, ...]:
    low, high = float(row.time_low), float(row.time_high)
    works = not row.failure.item()
    return (
        row.label.item(),
        _number(float(row.time_median), ".2f"),
        f"{low:.2f} to {high:.2f}" if works else "does not work here",
        _number(float(row.flops_ratio), ".2f"),
        _number(float(row.temporary_ratio), ".2f"),
        _number(float(row.total_ratio), ".2f"),
        f"{float(row.compile_seconds):.1f} s" if works else "-",
        _number(float(row.relative_error), ".0e"),
    )


def table(case: xr.Dataset) -> str:
    """One row for each method, in units of one gradient."""
    methods = case.variant.values
    rows = [_HEADER, *(_cells(case.sel(variant=m)) for m in methods)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEADER))]

    def line(cells: tuple[str, ...]) -> str:
        first, *rest = (
            c.ljust(w) if k == 0 else c.rjust(w)
            for k, (c, w) in enumerate(zip(cells, widths))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = [f"{'-' * (w - 1)}:" for w in widths]
    rule[0] = "-" * widths[0]
    return "\n".join([line(rows[0]), f"| {' | '.join(rule)} |", *map(line, rows[1:])])


def title(case: xr.Dataset) -> str:
    """Which workload at which batch size."""
    return f"{case.title.item()}, batch {case.batch_size.item()}"


def unit(case: xr.Dataset) -> str:
    """What one gradient costs."""
    one = case.sel(variant=GRADIENT)
    return (
        f"One gradient: {float(one.seconds) * 1e3:.3g} ms, "
        f"{float(one.flops) / 1e6:.4g} MFLOP, "
        f"{float(one.temporary_bytes) / 1e6:.3g} MB of temporaries, "
        f"{float(one.total_bytes) / 1e6:.3g} MB with inputs and outputs; "
        f"{int(one.repetitions)} repetitions."
    )


def failures(case: xr.Dataset) -> list[str]:
    """What does not work here, and why."""
    return [
        f"{case.label.sel(variant=m).item()}: {case.failure.sel(variant=m).item()}"
        for m in case.variant.values
        if case.failure.sel(variant=m).item()
    ]
