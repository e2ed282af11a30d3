from collections.abc import Sequence

import matplotlib.figure
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes

from ._axes import few_ticks, log_axis, positive
from ._band import diverged_from, draw_runs, note_on_diverged
from ._clocks import chosen_clocks, clock_values
from ._panels import Panels, styled
from ._strategies import check_no_knobs, labels_of, panels_of
from ._style import looks, Width
from ._words import LABELS, words


# Times the largest loss at the start. A run that blows up leaves the panel, and does not
# set its scale.
_HIGHEST = 1.5


def _smoothed(x: Float[np.ndarray, "seed step"], window: int) -> np.ndarray:
    """The running mean over the last `window` steps (fewer at the start); `nan` from
    the first value on that is not finite."""
    total = np.cumsum(np.where(np.isfinite(x), x, np.nan), axis=-1, dtype=float)
    total[:, window:] = total[:, window:] - total[:, :-window]
    return total / np.minimum(np.arange(1, x.shape[-1] + 1), window)


def _thinned(window: int, steps: int) -> np.ndarray:
    """The steps to draw, to the last: from the first full window on (before it the mean is
    of the start), and ten a window, so that vectors stay small however long the run."""
    stride = max(1, window // 10)
    return np.arange(steps - 1, window - 2, -stride)[::-1]


def _highest(loss: xr.DataArray) -> float:
    """Up to where losses are shown: a few times the largest at the start."""
    start = loss.isel(step=0).values
    start = start[np.isfinite(start)]
    return _HIGHEST * float(start.max()) if start.size and start.max() > 0 else np.inf


def _crop(ax: Axes, highest: float) -> None:
    if ax.get_ylim()[1] > highest:
        ax.set_ylim(top=highest)


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
    neither: it is a thin line that ends in a cross, and which strategies did is written
    below. Losses above those at the start are out of sight.

    Seconds are those of one run: the strategy's wall time without compilation, over all
    runs of the dataset, which shared it. So draw a study as it was run: without some of
    its seeds, the rest would seem slower.

    **Arguments:**

    - `data`: of [`curvopt.run_study`][], without hyper-parameters.
    - `clocks`: which, of `"step"`, `"gradient_equivalents"` and `"seconds"`; default: all
        that the dataset has.
    - `window`: default: a fiftieth of the run.
    - `width`: of the figure: `"column"` or `"page"` of a paper, or inches.

    **Returns:**

    A `matplotlib` figure.

    **Raises:**

    `ValueError` if the dataset lacks a clock, or has hyper-parameters.
    """
    check_no_knobs(data, "loss")
    chosen, panels = chosen_clocks(data, clocks), panels_of(data)
    look = looks(labels_of(panels))
    window = min(window or max(1, data.sizes["step"] // 50), data.sizes["step"])
    at, highest = _thinned(window, data.sizes["step"]), _highest(data.loss)
    with styled():
        titles = [title for title, _ in panels]
        grid = Panels(len(chosen), titles, width=width, same_x=False, same_y=True)
        for axes, clock in zip(grid.axes, chosen):
            for ax, (_, members) in zip(axes, panels):
                for name, label in members:
                    one = data.sel(strategy=name)
                    y = _smoothed(one.loss.transpose("seed", "step").values, window)[:, at]
                    x = clock_values(one, clock)[..., at]
                    draw_runs(ax, x, y, look[label], label, highest)
                few_ticks(ax, "x", narrow=grid.narrow)
        first = grid.axes[0, 0]
        if positive([data.loss.values]):
            log_axis(first, "y")
        _crop(first, highest)
        loss = [words(data, "loss")] * len(chosen)
        grid.label([LABELS[clock] for clock in chosen], loss)
        smoothing = f"Means of {window} steps. " if window > 1 else ""
        grid.finish(smoothing + note_on_diverged(data.loss.isel(step=-1)))
    return grid.figure


def metric_curves(
    data: xr.Dataset, metric: str, *, width: Width = "page"
) -> matplotlib.figure.Figure:
    """One of the problem's metrics, such as the test accuracy, against steps.

    Lines are means over seeds and bands reach from the lowest to the highest; seeds that
    diverged are as in [`curvopt.plots.learning_curves`][]. The start is left out: it is
    far from the rest, and the same for all.

    **Arguments:**

    - `data`: of [`curvopt.run_study`][], without hyper-parameters.
    - `metric`: one of the metrics of the problem's `evaluate`.
    - `width`: as in [`curvopt.plots.learning_curves`][].

    **Returns:**

    A `matplotlib` figure.

    **Raises:**

    `ValueError` if the dataset has hyper-parameters.
    """
    check_no_knobs(data, metric)
    panels = panels_of(data)
    values = data[metric]
    if "loss" in data:
        # What a diverged network predicts has an accuracy too: chance.
        values = values.where(data.evaluation_step < diverged_from(data.loss))
    look = looks(labels_of(panels))
    with styled():
        titles = [title for title, _ in panels]
        grid = Panels(1, titles, width=width, same_x=True, same_y=True)
        for ax, (_, members) in zip(grid.axes[0], panels):
            for name, label in members:
                one = values.sel(strategy=name).transpose("seed", "evaluation_step")
                x, y = one.evaluation_step.values[1:], one.values[:, 1:]
                draw_runs(ax, x, y, look[label], label)
            few_ticks(ax, "x", narrow=grid.narrow)
        few_ticks(grid.axes[0, 0], "y")
        grid.label([LABELS["evaluation_step"]], [words(data, metric)])
        grid.finish(note_on_diverged(values.isel(evaluation_step=-1)))
    return grid.figure
