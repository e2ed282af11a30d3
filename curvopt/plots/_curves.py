from collections.abc import Iterable, Sequence

import matplotlib.figure
import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from .._runs import as_study, check_dimensions
from .._study import final_metric
from ._axes import few_ticks, log_axis, positive
from ._band import diverged_from, draw_runs, note_on_diverged, note_on_seeds
from ._beyond import Extent, mark_beyond, NOTE
from ._clocks import chosen_clocks, clock_values
from ._panels import chosen_window, Panels, styled
from ._strategies import labels_of, looks_of, panels_of, runs_of
from ._style import Width
from ._words import LABELS, words


# Times the largest loss at the start. A run that diverges leaves the panel, instead of
# setting its scale.
_HIGHEST = 1.5

_COSTS = "A gradient-equivalent is the cost of one value and gradient."


def _smoothed(
    x: Float[np.ndarray, "seed step"], window: int, at: Int[np.ndarray, " point"]
) -> Float[np.ndarray, "seed point"]:
    """The means of the last `window` steps, at the given steps; not finite if one of them
    is not."""
    # Not by a cumulative sum: after a spike of 1e20 it would lose all values of 0.1.
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(float), window, axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return windows[:, at - window + 1].mean(axis=-1)


def _thinned(window: int, steps: int) -> np.ndarray:
    """The steps to draw: from the first full window to the last step, ten in each window,
    so that vector graphics stay small for long runs."""
    stride = max(1, window // 10)
    return np.arange(steps - 1, window - 2, -stride)[::-1]


def _highest(loss: xr.DataArray) -> float:
    """The largest loss to show: `_HIGHEST` times the largest at the start."""
    start = loss.isel(step=0).values
    start = start[np.isfinite(start)]
    return _HIGHEST * float(start.max()) if start.size and start.max() > 0 else np.inf


def learning_curves(
    data: xr.Dataset,
    *,
    clocks: Sequence[str] | None = None,
    window: int | None = None,
    width: Width = "page",
) -> matplotlib.figure.Figure:
    """The loss against steps, gradient-equivalents and seconds.

    Lines are means over seeds of the mini-batch loss, averaged over the last `window`
    steps; bands reach from the lowest seed to the highest. A seed that diverges is in
    neither: it is a thin line that ends with a cross, and a note below the figure names its
    strategy. Losses far above those at the start are not shown; marks at the edge of the
    panel show where.

    Seconds are for one run: the strategy's wall time without compilation, divided by the
    number of runs in the dataset. So draw a study with all its seeds: with a part of them,
    each would seem slower.

    **Arguments:**

    - `data`: a dataset of [`curvopt.run_study`][], without hyper-parameters.
    - `clocks`: some of `"step"`, `"gradient_equivalents"` and `"seconds"`; default: all
        that the dataset has.
    - `window`: the number of steps to average over; default: a fiftieth of the run.
    - `width`: the width of the figure: `"column"` or `"page"` of a paper, or inches.

    **Returns:**

    A `matplotlib` figure.

    **Raises:**

    `ValueError` if the dataset is not that of a study, lacks a clock, has hyper-parameters,
    or has a seed or a strategy twice.
    """
    data = as_study(data)
    check_dimensions(data, "loss", "step")
    chosen, panels, runs = chosen_clocks(data, clocks), panels_of(data), runs_of(data)
    look = looks_of(labels_of(panels), [data])
    window = chosen_window(window, data.sizes["step"], parts=50)
    at, highest = _thinned(window, data.sizes["step"]), _highest(data.loss)
    with styled():
        titles = [title for title, _ in panels]
        grid = Panels(len(chosen), titles, width=width, same_x=False, same_y=True)
        extents: dict[Axes, list[Extent]] = {}
        for axes, clock in zip(grid.axes, chosen):
            for ax, (_, members) in zip(axes, panels):
                for name, label in members:
                    loss = runs[name].loss.transpose("seed", "step").values
                    y = _smoothed(loss, window, at)
                    x = clock_values(runs[name], clock)[..., at]
                    extent = draw_runs(ax, x, y, look[label], label, highest=highest)
                    extents.setdefault(ax, []).append(extent)
                few_ticks(ax, "x", narrow=grid.narrow)
        first = grid.axes[0, 0]
        if positive([data.loss.values]):
            log_axis(first, "y")
        if first.get_ylim()[1] > highest:
            first.set_ylim(top=highest)
        loss = [words(data, "loss")] * len(chosen)
        grid.label([LABELS[clock] for clock in chosen], loss)
        beyond = [mark_beyond(ax, own) for ax, own in extents.items()]
        grid.finish(
            look,
            note_on_diverged(
                {name: one.loss.isel(step=-1).values for name, one in runs.items()}
            ),
            f"Means of {window} steps." if window > 1 else "",
            note_on_seeds(one.sizes["seed"] for one in runs.values()),
            _COSTS if "gradient_equivalents" in chosen else "",
            NOTE if any(beyond) else "",
        )
    return grid.figure


def metric_curves(
    data: xr.Dataset, metric: str, *, width: Width = "page"
) -> matplotlib.figure.Figure:
    """One of the problem's metrics, such as the test accuracy, against steps.

    Lines are means over seeds and bands reach from the lowest to the highest; seeds that
    diverged are drawn as in [`curvopt.plots.learning_curves`][]. The start is left out: it
    is far from the rest, and the same for all.

    **Arguments:**

    - `data`: a dataset of [`curvopt.run_study`][], without hyper-parameters.
    - `metric`: one of the metrics of the problem's `evaluate`.
    - `width`: as in [`curvopt.plots.learning_curves`][].

    **Returns:**

    A `matplotlib` figure.

    **Raises:**

    `ValueError` if there is no such metric (the error lists the metrics), or the dataset is
    not that of a study, has hyper-parameters, or has a seed or a strategy twice.
    """
    data = as_study(data)
    final_metric(data, metric)  # raises if there is no such metric
    check_dimensions(data, metric, "evaluation_step")
    panels, runs = panels_of(data), runs_of(data)
    look = looks_of(labels_of(panels), [data])
    # The start is left out, unless there is nothing else.
    first = 1 if data.sizes["evaluation_step"] > 1 else 0
    values = {name: _while_alive(one, metric)[:, first:] for name, one in runs.items()}
    lowest, highest = _limits(values.values())
    with styled():
        titles = [title for title, _ in panels]
        grid = Panels(1, titles, width=width, same_x=True, same_y=True)
        for ax, (_, members) in zip(grid.axes[0], panels):
            for name, label in members:
                x = data.evaluation_step.values[first:]
                draw_runs(
                    ax, x, values[name], look[label], label, lowest=lowest, highest=highest
                )
            few_ticks(ax, "x", narrow=grid.narrow)
        few_ticks(grid.axes[0, 0], "y")
        grid.label([LABELS["evaluation_step"]], [words(data, metric)])
        grid.finish(
            look,
            note_on_diverged({name: y[:, -1] for name, y in values.items()}),
            note_on_seeds(one.sizes["seed"] for one in runs.values()),
            "The start is left out." if first else "",
        )
    return grid.figure


def _while_alive(one: xr.Dataset, metric: str) -> Float[np.ndarray, "seed evaluation_step"]:
    values = one[metric]
    if "loss" in one:
        # A diverged network still has an accuracy, that of chance: do not draw it.
        values = values.where(one.evaluation_step < diverged_from(one.loss))
    return values.transpose("seed", "evaluation_step").values.astype(float)


def _limits(values: Iterable[Float[np.ndarray, "seed point"]]) -> tuple[float, float]:
    """The limits within which diverged runs are shown: somewhat beyond the other runs, if
    there are any."""
    ends = [y[np.isfinite(y[:, -1])] for y in values]
    alive = np.concatenate([y[np.isfinite(y)] for y in ends])
    if not alive.size:
        return -np.inf, np.inf
    low, high = alive.min() / 2, alive.max() / 2  # the difference of halves is finite
    margin = (high - low) or abs(high) or 1.0
    return float(2 * low - margin), float(2 * high + margin)
