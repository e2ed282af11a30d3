import warnings
from collections.abc import Callable
from typing import Literal

import matplotlib.figure
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ._axes import few_ticks, log_axis
from ._band import draw_band, note_on_diverged
from ._panels import Panels, styled
from ._strategies import check_no_knobs, labels_of, panels_of
from ._style import looks, Width
from ._words import LABELS


def _effective_rate(one: xr.Dataset) -> xr.DataArray:
    r"""$\ell = \tau |\varphi''(0)| / (-2 \varphi'(0))$, where the line descends."""
    descends = (one.slope < 0) & (abs(one.curvature) > 0)
    return (one.step_size * abs(one.curvature) / (-2 * one.slope)).where(descends)


_QUANTITIES: dict[str, Callable[[xr.Dataset], xr.DataArray]] = {
    "step_size": lambda one: one.step_size,
    "effective_rate": _effective_rate,
    "slope": lambda one: one.slope,
    "curvature": lambda one: one.curvature,
    "gradient_norm": lambda one: one.gradient_norm,
}

# The rates that mean something on any problem.
_MARKS: dict[float, tuple[Literal["--", ":"], str]] = {
    1.0: ("--", r"edge of stability, $\ell = 1$"),
    0.5: (":", r"convergence, $\ell = 1/2$"),
}


def _medians(y: Float[np.ndarray, "seed step"], window: int) -> np.ndarray:
    """The median of each window of steps, of what was measured in it."""
    whole = y.shape[1] // window * window
    with warnings.catch_warnings():
        # A window in which nothing was measured has none.
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanmedian(y[:, :whole].reshape(len(y), -1, window), axis=-1)


def _measured(data: xr.Dataset) -> dict[str, xr.DataArray]:
    """The quantities that any strategy has a value of."""
    there = {
        name: quantity(data)
        for name, quantity in _QUANTITIES.items()
        if name in data.variables or name == "effective_rate"
    }
    kept = {name: x for name, x in there.items() if bool(np.isfinite(x).any())}
    return kept or {"step_size": there["step_size"]}


def _limits(drawn: list[np.ndarray]) -> tuple[float, float] | None:
    """The panel's limits, from nearly all that is drawn: a spike, or a step that vanishes
    at the end, does not flatten the rest."""
    values = np.concatenate([y[y > 0] for y in drawn]) if drawn else np.empty(0)
    if not values.size:
        return None
    low, high = np.quantile(np.log(values), [0.01, 0.995])
    margin = 0.05 * (high - low) + 0.1
    return float(np.exp(low - margin)), float(np.exp(high + margin))


def line_traces(
    data: xr.Dataset, *, window: int | None = None, width: Width = "page"
) -> matplotlib.figure.Figure:
    r"""Step size, learning rate, slope, curvature and gradient norm along the run, where
    they were measured.

    The learning rate is the $\ell$ that the step amounts to,

    $$\ell = \frac{\tau \, |\varphi''(0)|}{2 (-\varphi'(0))},$$

    from the slope and curvature that the rule itself measured in that step (along the
    fresh part of the direction, if it measures there), and only where the line descends.
    At $\ell = 1/2$ the step goes to the minimum of the parabola, and $\ell = 1$ is the
    edge of stability. A rule that averages, or limits its steps, is not at the $\ell$ that
    it was given.

    Absolute values; medians of each window over time, then the mean over seeds, and bands
    from the lowest seed to the highest, on logarithmic axes. Runs that diverged do not set
    the scale.

    **Arguments:**

    - `data`: of [`curvopt.run_study`][], without hyper-parameters.
    - `window`: default: a hundredth of the run.
    - `width`: as in [`curvopt.plots.learning_curves`][].

    **Returns:**

    A `matplotlib` figure.

    **Raises:**

    `ValueError` if the dataset has hyper-parameters.
    """
    check_no_knobs(data, "step_size")
    panels, measured = panels_of(data), _measured(data)
    look = looks(labels_of(panels))
    window = min(window or max(1, data.sizes["step"] // 100), data.sizes["step"])
    with styled():
        titles = [title for title, _ in panels]
        grid = Panels(len(measured), titles, width=width, same_x=True, same_y=False)
        for axes, (name, values) in zip(grid.axes, measured.items()):
            scale = []
            for ax, (_, members) in zip(axes, panels):
                for strategy, label in members:
                    one = values.sel(strategy=strategy).transpose("seed", "step")
                    y = _medians(np.abs(one.values), window)
                    if not np.isfinite(y).any():
                        continue
                    x = one.step.values[: y.shape[1] * window : window] + window / 2
                    # A logarithmic axis has no place for a step of zero.
                    draw_band(ax, x, np.where(y > 0, y, np.nan), look[label], label)
                    scale.append(y[np.isfinite(data.loss.sel(strategy=strategy)[..., -1])])
                if name == "effective_rate":
                    _mark(ax)
            log_axis(axes[0], "y")
            axes[0].set_ylim(_limits(scale))
        few_ticks(grid.axes[0, 0], "x", narrow=grid.narrow)
        grid.label([LABELS["step"]] * len(measured), [LABELS[name] for name in measured])
        note = note_on_diverged(data.loss.isel(step=-1), mark="")
        grid.finish(note, _mark_handles() if "effective_rate" in measured else ())
    return grid.figure


def _mark(ax: Axes) -> None:
    for rate, (style, _) in _MARKS.items():
        ax.axhline(rate, color="black", linewidth=0.9, linestyle=style, zorder=1)


def _mark_handles() -> list[Line2D]:
    return [
        Line2D([], [], color="black", linewidth=0.9, linestyle=style, label=label)
        for style, label in _MARKS.values()
    ]
