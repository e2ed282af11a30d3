r"""Cost: is it $(1.5C, 2M)$ and $(2C, 1M)$? Compared with the count of sweeps, the count of
products, and every other way to compute $\langle u, Hu \rangle$."""

import dataclasses
from typing import Any

import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from curvopt.plots import STYLE

from ...cost import (
    cases,
    GRADIENT,
    larger_batches,
    QUICK_SECONDS,
    run,
    SECONDS,
    VARIANTS,
    Workload,
    WORKLOADS,
)
from ...cost._workloads import Autoencoder, MLP
from .._latex import camel, plain, table, two
from .._question import Findings, Measurement
from .._style import look, TEXT_WIDTH


ADJOINT, FORWARD = "adjoint", "forward"

# Other ways to the same number, up to rounding. A difference of losses is inexact; a part
# of the batch and Gauss-Newton are other quantities.
RIVALS = ("jvp-grad", "linearize-grad", "nested-jvp", "jet")

# Time and memory by the count of sweeps.
SWEEPS = {ADJOINT: (1.5, 2.0), FORWARD: (2.0, 1.0)}

_QUICK = ("mlp", "autoencoder")


def _widths(workload: Workload, quick: bool) -> tuple[int, ...] | None:
    """The widths of the layers if a network has only dense layers, else `None`."""
    build = workload.tiny if quick else workload.full
    if isinstance(build, MLP):
        return (build.pixels, *[build.width] * build.depth, build.classes)
    return build.widths if isinstance(build, Autoencoder) else None


def products(widths: tuple[int, ...] | None) -> dict[str, float]:
    r"""The time by the count of products, relative to a gradient's, for layers of sizes
    $s_l$ with $S = \sum_l s_l$; nan if they are not counted.

    A gradient takes $3S - s_1$, the tangents with the quadratic terms $2S - s_1$ more, and
    second-order forward mode $3S - 2 s_1$ more. For $L$ equal layers that is
    $1 + (2L - 1) / (3L - 1)$ and $1 + (3L - 2) / (3L - 1)$.
    """
    if widths is None:
        return {ADJOINT: np.nan, FORWARD: np.nan}
    sizes = np.multiply(widths[:-1], widths[1:])
    first, every = float(sizes[0]), float(sizes.sum())
    gradient = 3 * every - first
    return {
        ADJOINT: 1 + (2 * every - first) / gradient,
        FORWARD: 1 + (3 * every - 2 * first) / gradient,
    }


def measure(quick: bool) -> xr.Dataset:
    """The measurements of `python -m experiments cost`, with the count of products."""
    workloads = {name: WORKLOADS[name] for name in _QUICK} if quick else WORKLOADS
    by_workload, seconds = cases(workloads, quick), QUICK_SECONDS if quick else SECONDS
    *_, data = run(
        by_workload,
        VARIANTS,
        seconds=seconds,
        measured=lambda case: print(_done(case), flush=True),
    )
    counts = [products(_widths(WORKLOADS[name], quick)) for name in data.workload.values]
    for method in (ADJOINT, FORWARD):
        data[f"products_{method}"] = "case", [count[method] for count in counts]
    # netCDF cannot compress texts.
    return data.drop_vars("failure")


def _done(case: xr.Dataset) -> str:
    return f"cost, {case.title.item()}, batch {case.batch_size.item()}"


# The quantities that are compared, relative to the gradient's.
TIME, FLOPS, MEMORY = "time_median", "flops_ratio", "temporary_ratio"


@dataclasses.dataclass(frozen=True)
class Rival:
    """The best of the rivals in one quantity.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `value`: its value relative to the gradient's.
    """

    label: str
    value: float


def best_rival(case: xr.Dataset, what: str) -> Rival:
    """The best rival on a workload; nan if none runs."""
    values = case[what].sel(variant=[m for m in RIVALS if m in case.variant.values])
    if not bool(np.isfinite(values).any()):
        return Rival("--", float("nan"))
    best = values.isel(variant=int(values.argmin("variant")))
    return Rival(str(best.label.item()), float(best))


def _of(case: xr.Dataset, method: str, what: str) -> float:
    return float(case[what].sel(variant=method))


def _each(data: xr.Dataset) -> list[xr.Dataset]:
    return [data.isel(case=k) for k in range(data.sizes["case"])]


def _ours(data: xr.Dataset) -> str:
    """Both methods on each workload, with the count of products."""
    groups = ("FLOPs", "products", "time", "memory")
    head = " & ".join(rf"\multicolumn{{2}}{{c}}{{{group}}}" for group in groups)
    below = " & ".join(["adj. & fwd."] * len(groups))
    rows = [["", "", rf"{head} \\ & batch & {below}"]]
    for case in _each(data):
        pairs = [
            [_of(case, method, FLOPS) for method in SWEEPS],
            [float(case[f"products_{method}"]) for method in SWEEPS],
            [_of(case, method, TIME) for method in SWEEPS],
            [_of(case, method, MEMORY) for method in SWEEPS],
        ]
        cells = [two(x) for pair in pairs for x in pair]
        rows.append([case.title.item(), str(case.batch_size.item()), *cells])
    time = [two(time) for time, _ in SWEEPS.values()]
    memory = [two(memory) for _, memory in SWEEPS.values()]
    rows.append([r"\midrule count of sweeps", "", *time, "", "", *time, *memory])
    return table(rows, "lr" + "rr" * len(groups))


def _rivals(data: xr.Dataset) -> str:
    """The best rival on each workload in each quantity, next to the adjoint method."""
    quantities = {"FLOPs": FLOPS, "time": TIME, "memory": MEMORY}
    head = " & ".join(rf"\multicolumn{{3}}{{c}}{{{name}}}" for name in quantities)
    below = " & ".join(["adj. & best & which"] * len(quantities))
    rows = [["", rf"{head} \\ & {below}"]]
    for case in _each(data):
        cells = []
        for what in quantities.values():
            best = best_rival(case, what)
            cells += [two(_of(case, ADJOINT, what)), two(best.value), best.label]
        rows.append([case.title.item(), *cells])
    return table(rows, "l" + "rrl" * len(quantities))


def _numbers(data: xr.Dataset) -> dict[str, str]:
    every = _each(data)
    numbers = {
        "CostWorkloads": str(len(every)),
        "CostCounted": str(int(np.isfinite(data[f"products_{ADJOINT}"]).sum())),
    }
    quantities = {"Time": TIME, "Flops": FLOPS, "Total": "total_ratio"}
    for method in SWEEPS:
        counted = [case for case in every if np.isfinite(case[f"products_{method}"])]
        off = [
            _of(case, method, FLOPS) / float(case[f"products_{method}"]) - 1
            for case in counted
        ]
        numbers[f"CostCountOff{camel(method)}"] = _percent_of(off)
        for name, what in quantities.items():
            values = np.array([_of(case, method, what) for case in every])
            numbers |= {
                f"Cost{name}{camel(method)}Least": two(float(np.nanmin(values))),
                f"Cost{name}{camel(method)}Most": two(float(np.nanmax(values))),
                f"Cost{name}{camel(method)}Median": two(float(np.nanmedian(values))),
            }
    for name, what in (("Time", TIME), ("Flops", FLOPS)):
        best = [best_rival(case, what).value for case in every]
        ours = [_of(case, ADJOINT, what) for case in every]
        wins = sum(not best_one <= own for own, best_one in zip(ours, best))
        numbers[f"Cost{name}Wins"] = str(wins)
        gains = [b / own for own, b in zip(ours, best) if np.isfinite(b)]
        numbers[f"Cost{name}GainMedian"] = two(float(np.median(gains)))
    for case in every:
        if case.workload.item() == "deep-mlp":
            numbers["CostMemoryAdjointOnDeepMlp"] = two(_of(case, ADJOINT, MEMORY))
    errors = [_of(case, ADJOINT, "relative_error") for case in every]
    return numbers | {"CostErrorMost": plain(float(np.nanmax(errors)), 1)}


def _percent_of(off: list[float]) -> str:
    """The largest deviation, in per cent."""
    return rf"{100 * max(map(abs, off)):.1f}\,\%" if off else "--"


_PANELS = {TIME: "time", FLOPS: "FLOPs", MEMORY: "temporary memory"}

_DASHED: dict[str, Any] = {
    "color": "#888888",
    "linewidth": 0.8,
    "linestyle": (0, (4, 2)),
    "zorder": 1,
}

# Heights in inches: the row of a method; labels and legend together.
_ROW, _MARGIN = 0.25, 0.85


def _look(k: int) -> dict[str, Any]:
    """The look of the `k`-th workload: a marker; thin ones are larger."""
    found = {**look(k), "linestyle": "", "markeredgewidth": 0.2}
    return {**found, "markersize": {"P": 5.5, "*": 7.0}.get(found["marker"], 4.0)}


def _panel(ax: Axes, data: xr.Dataset, what: str) -> None:
    """A row for each method, a marker for each workload, and lines at the count of sweeps
    of both methods."""
    number = data.sizes["case"]
    rows = np.arange(data.sizes["variant"])
    for k, case in enumerate(_each(data)):
        shift = 0.7 * ((k + 0.5) / number - 0.5)
        ax.plot(case[what].values, rows + shift, **_look(k))
    ax.axvline(1, color="black", linewidth=0.8, zorder=1)
    for x in (1.5, 2.0) if what != MEMORY else (2.0,):
        ax.axvline(x, **_DASHED)
    # The ratios range from a half to dozens.
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    ax.grid(axis="y", visible=False)
    for row in rows[1::2]:
        ax.axhspan(row - 0.5, row + 0.5, color="#f2f2f2", zorder=0, linewidth=0)
    ax.set_title(_PANELS[what])


def _figure(data: xr.Dataset) -> matplotlib.figure.Figure:
    """Time, FLOPs and memory of every method relative to a gradient's, on all workloads."""
    methods = [m for m in data.variant.values if m != GRADIENT]
    data = data.sel(variant=methods)
    with matplotlib.style.context(STYLE):
        figure = matplotlib.figure.Figure(
            (TEXT_WIDTH, _ROW * len(methods) + _MARGIN), layout="constrained"
        )
        axes = figure.subplots(1, len(_PANELS), sharey=True)
        for ax, what in zip(axes, _PANELS):
            _panel(ax, data, what)
        axes[0].set_yticks(range(len(methods)), data.label.values.tolist())
        axes[0].set_ylim(len(methods) - 0.5, -0.5)
        axes[1].set_xlabel("over one gradient's")
        handles = [
            Line2D([], [], label=case.title.item(), **_look(k))
            for k, case in enumerate(_each(data))
        ]
        handles.append(Line2D([], [], label="count of sweeps", **_DASHED))
        figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def conclude(data: xr.Dataset) -> Findings:
    """The costs of both methods against the counts and against the best rival, at the
    larger batch of each workload."""
    data = larger_batches(data)
    return Findings(
        {"cost": _figure(data)},
        _numbers(data),
        {"cost": _ours(data), "cost-rivals": _rivals(data)},
    )


COST = Measurement("cost", "What the curvature costs", measure, conclude)
