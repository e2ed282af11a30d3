import warnings
from collections.abc import Callable, Iterable
from typing import Literal

import matplotlib.figure
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .._runs import as_study, check_dimensions
from ._axes import few_ticks, log_axis
from ._band import draw_band, note_on_diverged, note_on_seeds
from ._beyond import Extent, mark_beyond, NOTE
from ._labels import Maths
from ._panels import chosen_window, Panels, styled
from ._strategies import labels_of, looks_of, panels_of, runs_of
from ._style import Width
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

# The rates that have a meaning on every problem.
_MARKS: dict[float, tuple[Literal["--", ":"], str]] = {
    1.0: ("--", Maths(r"edge of stability, $\ell = 1$")),
    0.5: (":", Maths(r"convergence, $\ell = 1/2$")),
}


_SYMBOLS = (
    "The step size is τ in y + τ u; φ(t) is the loss at y + t u, and φ′, φ″ are its "
    "slope and curvature at 0."
)


def _medians(y: Float[np.ndarray, "seed step"], window: int) -> np.ndarray:
    """The median of the measurements in each window of steps."""
    whole = y.shape[1] // window * window
    with warnings.catch_warnings():
        # A window without measurements has no median.
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanmedian(y[:, :whole].reshape(len(y), whole // window, window), axis=-1)


def _measured(data: xr.Dataset) -> list[str]:
    """The quantities that some strategy has measured."""
    there = {
        name: quantity(data)
        for name, quantity in _QUANTITIES.items()
        if name in data.variables or name == "effective_rate"
    }
    kept = [name for name, x in there.items() if bool(np.isfinite(x).any())]
    return kept or ["step_size"]


def _limits(drawn: list[np.ndarray], marks: Iterable[float]) -> tuple[float, float] | None:
    """The panel's limits, by quantiles, so that a spike, or a step that vanishes at the
    end, does not flatten the rest."""
    values = np.concatenate([y[y > 0] for y in drawn]) if drawn else np.empty(0)
    if not values.size:
        return None
    logs = [*np.quantile(np.log(values), [0.01, 0.995]), *np.log(list(marks))]
    low, high = min(logs), max(logs)
    margin = 0.05 * (high - low) + 0.1
    return float(np.exp(low - margin)), float(np.exp(high + margin))


def line_traces(
    data: xr.Dataset, *, window: int | None = None, width: Width = "page"
) -> matplotlib.figure.Figure:
    r"""Step size, learning rate, slope, curvature and gradient norm along the run, where
    they were measured.

    The learning rate is the effective $\ell$ of the step,

    $$\ell = \frac{\tau \, |\varphi''(0)|}{2 (-\varphi'(0))},$$

    from the slope and curvature that the rule itself measured in that step (along the
    fresh part of the direction, if it measures there), and only where the line descends.
    At $\ell = 1/2$ the step goes to the minimum of the parabola, and $\ell = 1$ is the
    edge of stability. For a rule that averages, or limits its steps, it differs from the
    $\ell$ of the rule.

    The figure shows absolute values on logarithmic axes: the median over each window of
    steps, then the mean over seeds, with bands from the lowest seed to the highest. Runs
    that diverged do not set the scale, nor do a few spikes; marks at the edge of a panel
    show where lines leave it.

    **Arguments:**

    - `data`: a dataset of [`curvopt.run_study`][], without hyper-parameters.
    - `window`: the number of steps in a window; default: a hundredth of the run.
    - `width`: as in [`curvopt.plots.learning_curves`][].

    **Returns:**

    A `matplotlib` figure.

    **Raises:**

    `ValueError` if the dataset is not that of a study, has hyper-parameters, or has a seed
    or a strategy twice.
    """
    data = as_study(data)
    for name in ("loss", "step_size", "slope", "curvature"):
        check_dimensions(data, name, "step")
    panels, measured, runs = panels_of(data), _measured(data), runs_of(data)
    look = looks_of(labels_of(panels), [data])
    window = chosen_window(window, data.sizes["step"], parts=100)
    alive = {name: np.isfinite(one.loss.isel(step=-1).values) for name, one in runs.items()}
    with styled():
        titles = [title for title, _ in panels]
        grid = Panels(len(measured), titles, width=width, same_x=True, same_y=False)
        beyond = False
        for axes, quantity in zip(grid.axes, measured):
            scale: list[np.ndarray] = []
            extents: dict[Axes, list[Extent]] = {ax: [] for ax in axes}
            for ax, (_, members) in zip(axes, panels):
                for strategy, label in members:
                    one = _QUANTITIES[quantity](runs[strategy]).transpose("seed", "step")
                    y = _medians(np.abs(one.values), window)
                    if not np.isfinite(y).any():
                        continue
                    x = one.step.values[: y.shape[1] * window : window] + window / 2
                    # A logarithmic axis cannot show zero: these steps get a mark instead.
                    extent = draw_band(
                        ax, x, np.where(y > 0, y, np.nan), look[label], label
                    )
                    zero = (y == 0).any(axis=0)
                    nothing = np.zeros(int(zero.sum()))
                    extents[ax] += [extent, Extent(x[zero], nothing, nothing, look[label])]
                    scale.append(y[alive[strategy]])
                if quantity == "effective_rate":
                    _mark(ax)
            log_axis(axes[0], "y")
            marks = _MARKS if quantity == "effective_rate" else ()
            axes[0].set_ylim(_limits(scale, marks))
            beyond |= any([mark_beyond(ax, own) for ax, own in extents.items()])
        few_ticks(grid.axes[0, 0], "x", narrow=grid.narrow)
        grid.label([LABELS["step"]] * len(measured), [LABELS[name] for name in measured])
        grid.finish(
            look,
            note_on_diverged(
                {name: one.loss.isel(step=-1).values for name, one in runs.items()},
                drawn=False,
            ),
            _SYMBOLS,
            f"Medians of {window} steps." if window > 1 else "",
            note_on_seeds(one.sizes["seed"] for one in runs.values()),
            NOTE if beyond else "",
            extra=_mark_handles() if "effective_rate" in measured else {},
        )
    return grid.figure


def _mark(ax: Axes) -> None:
    for rate, (style, _) in _MARKS.items():
        ax.axhline(rate, color="black", linewidth=0.9, linestyle=style, zorder=1)


def _mark_handles() -> dict[str, Line2D]:
    return {
        label: Line2D([], [], color="black", linewidth=0.9, linestyle=style)
        for style, label in _MARKS.values()
    }
