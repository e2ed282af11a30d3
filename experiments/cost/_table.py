"""The table of one case in Markdown, readable as text too."""

import xarray as xr

from .._formatting import markdown, number
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


def _cells(row: xr.Dataset) -> tuple[str, ...]:
    low, high = float(row.time_low), float(row.time_high)
    works = not row.failure.item()
    return (
        row.label.item(),
        number(float(row.time_median), ".2f"),
        f"{low:.2f} to {high:.2f}" if works else "fails",
        number(float(row.flops_ratio), ".2f"),
        number(float(row.temporary_ratio), ".2f"),
        number(float(row.total_ratio), ".2f"),
        f"{float(row.compile_seconds):.1f} s" if works else "-",
        number(float(row.relative_error), ".0e"),
    )


def table(case: xr.Dataset) -> str:
    """One row for each method, in units of one gradient."""
    methods = case.variant.values
    return markdown([_HEADER, *(_cells(case.sel(variant=m)) for m in methods)])


def title(case: xr.Dataset) -> str:
    """The name and batch size of a case."""
    return f"{case.title.item()}, batch {case.batch_size.item()}"


def unit(case: xr.Dataset) -> str:
    """The cost of one gradient, the unit of a table."""
    one = case.sel(variant=GRADIENT)
    return (
        f"One gradient: {float(one.seconds) * 1e3:.3g} ms, "
        f"{float(one.flops) / 1e6:.4g} MFLOP, "
        f"{float(one.temporary_bytes) / 1e6:.3g} MB of temporaries, "
        f"{float(one.total_bytes) / 1e6:.3g} MB with inputs and outputs; "
        f"{int(one.repetitions)} repetitions."
    )


def failures(case: xr.Dataset) -> list[str]:
    """The methods that fail, and their errors."""
    return [
        f"{case.label.sel(variant=m).item()}: {case.failure.sel(variant=m).item()}"
        for m in case.variant.values
        if case.failure.sel(variant=m).item()
    ]
