import json
from collections.abc import Iterator

import xarray as xr

from .._formatting import items, markdown, number
from ._table import failures, table, title, unit
from ._variants import GRADIENT


_QUANTITIES = {
    "time": "time_median",
    "FLOPs": "flops_ratio",
    "temporary memory": "temporary_ratio",
    "memory with inputs and outputs": "total_ratio",
}


def larger_batches(data: xr.Dataset) -> xr.Dataset:
    """The cases with the largest batch of each workload."""
    largest: dict[str, int] = {}
    for k, workload in enumerate(data.workload.values):
        best = largest.setdefault(str(workload), k)
        if data.batch_size.values[k] > data.batch_size.values[best]:
            largest[str(workload)] = k
    return data.isel(case=list(largest.values()))


def _overview(data: xr.Dataset, variable: str) -> str:
    """One quantity on all workloads: a row for each, a column for each method."""
    methods = [m for m in data.variant.values if m != GRADIENT]
    rows = [["", *(data.label.sel(variant=m).item() for m in methods)]]
    for k in range(data.sizes["case"]):
        case = data.isel(case=k)
        values = (float(case[variable].sel(variant=m)) for m in methods)
        rows.append([title(case), *(number(x, ".2f") for x in values)])
    return markdown(rows)


def _sections(data: xr.Dataset) -> Iterator[str]:
    yield "# The cost of the curvature"
    yield (
        "Value, gradient and curvature along the negative gradient, by every method, "
        "relative to one value-and-gradient. Command:\n\n"
        f"```\n{data.attrs['command']}\n```"
    )
    yield (
        "Times are medians over paired runs, interleaved in random order, with quartiles. "
        "XLA counts the FLOPs of a loop's body once, so a model with a loop is counted in "
        "its unrolled form, the GRU with eight steps. Temporaries are the memory that XLA "
        "allocates besides inputs and outputs (the gradient is an output); all memory is "
        "both together. The error of the curvature is relative to float64 along the same "
        "direction; Gauss-Newton and a part of the batch are other quantities by design. "
        "Data are synthetic, parameters are initial ones."
    )
    yield (
        "![Time, FLOPs and memory of every method, relative to one gradient's (the black "
        "line). Filled: the larger batch; hollow: the smaller. Dots of time are medians, "
        "lines span the quartiles](figures/cost.png)"
    )
    yield "## Overview"
    for name, variable in _QUANTITIES.items():
        yield f"In units of one gradient's {name}, at the larger batch:"
        yield _overview(larger_batches(data), variable)
    for k in range(data.sizes["case"]):
        case = data.isel(case=k)
        yield f"## {title(case)}"
        yield table(case)
        yield unit(case)
        broken = failures(case)
        if broken:
            yield f"Methods that fail here:\n\n{items(broken)}"
    yield "## Workloads"
    models = json.loads(data.attrs["models"])
    yield "\n".join(f"- {name}: `{model}`" for name, model in models.items())
    yield "## Versions and hardware"
    versions = json.loads(data.attrs["versions"]) | json.loads(data.attrs["hardware"])
    yield ", ".join(f"{name} {value}" for name, value in versions.items()) + "."


def report(data: xr.Dataset) -> str:
    """The whole report in Markdown."""
    return "\n\n".join(_sections(data)) + "\n"
