"""Figures of studies, in one style that is safe for colour-blind eyes.

All take a dataset of [`curvopt.run_study`][] and return a `matplotlib` figure that
belongs to nobody (no `pyplot` state): `figure.savefig(...)`. If the dataset's
`strategy` has the coordinates `direction` and `line_search`, each direction has a panel
of its own, and each line search a colour.
"""

from collections.abc import Sequence

import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes


# Okabe & Ito 2008, "Color Universal Design".
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

# What all figures have in common, for `matplotlib.style.context`.
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.6,
}

_LABELS = {
    "step": "steps",
    "evaluation_step": "steps",
    "gradient_equivalents": "gradient-equivalents",
    "loss": "mini-batch loss",
    "step_size": r"step size $\tau$",
    "slope": r"$-$slope, $-\langle g, u \rangle$",
    "curvature": r"$|$curvature$|$, $|\langle u, Hu \rangle|$",
    "train_loss": "training loss",
    "test_accuracy": "test accuracy",
}


def _panels(data: xr.Dataset) -> list[tuple[str, list[tuple[str, str]]]]:
    """Panels, each with its strategies: `(title, [(strategy, label)])`."""
    names = [str(name) for name in data.strategy.values]
    if "direction" not in data.coords or "line_search" not in data.coords:
        return [("", [(name, name) for name in names])]
    panels: dict[str, list[tuple[str, str]]] = {}
    for name, direction, rule in zip(names, data.direction.values, data.line_search.values):
        panels.setdefault(str(direction), []).append((name, str(rule)))
    return list(panels.items())


def _smoothed(x: Float[np.ndarray, "seed step"], window: int) -> np.ndarray:
    """The running mean over the last `window` steps (fewer at the start); `nan` from
    the first value on that is not finite."""
    total = np.cumsum(np.where(np.isfinite(x), x, np.nan), axis=-1)
    total[:, window:] = total[:, window:] - total[:, :-window]
    return total / np.minimum(np.arange(1, x.shape[-1] + 1), window)


def _band(ax: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str) -> None:
    """The mean over seeds, and from the smallest to the largest seed."""
    alive = np.isfinite(y)
    shown = np.where(alive, y, np.nan)
    seen = alive.any(axis=0)
    if not seen.any():
        ax.plot([], [], color=colour, label=f"{label} (diverged)")
        return
    x, shown = x[seen], shown[:, seen]
    ax.plot(x, np.nanmean(shown, axis=0), color=colour, label=label)
    low, high = np.nanmin(shown, axis=0), np.nanmax(shown, axis=0)
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _figure(rows: int, columns: int) -> tuple[matplotlib.figure.Figure, np.ndarray]:
    with matplotlib.style.context(STYLE):
        figure = matplotlib.figure.Figure(
            figsize=(1.2 + 3.4 * columns, 0.9 + 2.6 * rows), layout="constrained"
        )
        return figure, figure.subplots(rows, columns, squeeze=False)


def _legend(figure: matplotlib.figure.Figure, axes: np.ndarray) -> None:
    """One legend above all panels, each label once."""
    found = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            found.setdefault(label, handle)
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside upper center",
        ncols=min(len(found), 4),
        frameon=False,
    )


def _log_scale(ax: Axes) -> None:
    """A logarithmic axis with plain labels where it spans less than two decades."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if 0 < low and high / low < 100:
        plain = matplotlib.ticker.FuncFormatter(lambda y, _: f"{y:g}")
        ax.yaxis.set_minor_formatter(plain)
        ax.yaxis.set_major_formatter(plain)
        few = (1.0, 2.0, 5.0) if high / low > 10 else (1.0, 2.0, 3.0, 5.0)
        subs = few if high / low > 2.5 else "auto"
        ax.yaxis.set_minor_locator(matplotlib.ticker.LogLocator(subs=subs))
        ax.tick_params(axis="y", which="minor", labelsize=8)


def _colours(data: xr.Dataset) -> dict[str, str]:
    labels = [label for _, members in _panels(data) for _, label in members]
    unique = list(dict.fromkeys(labels))
    return {label: COLOURS[k % len(COLOURS)] for k, label in enumerate(unique)}


def learning_curves(
    data: xr.Dataset, *, window: int | None = None
) -> matplotlib.figure.Figure:
    """Loss against steps (above) and against gradient-equivalents (below).

    Lines are means over seeds of the mini-batch loss, averaged over the last `window`
    steps (default: a fiftieth of the run); bands reach from the lowest seed to the
    highest.
    """
    panels, colours = _panels(data), _colours(data)
    window = window or max(1, data.sizes["step"] // 50)
    figure, axes = _figure(2, len(panels))
    for row, clock in enumerate(("step", "gradient_equivalents")):
        for ax, (title, members) in zip(axes[row], panels):
            for name, label in members:
                one = data.sel(strategy=name)
                x = one[clock].values
                x = x if x.ndim == 1 else x.mean(axis=0)
                y = _smoothed(one.loss.transpose("seed", "step").values, window)
                # The first full window on: before it the mean is of the start.
                _band(ax, x[window - 1 :], y[:, window - 1 :], colours[label], label)
            ax.set_title(title if row == 0 else "")
            ax.set_xlabel(_LABELS[clock])
            _log_scale(ax)
        _share_limits(axes[row])
        axes[row, 0].set_ylabel(f"{_LABELS['loss']}\n(mean of {window} steps)")
    _legend(figure, axes)
    return figure


def _share_limits(axes: Sequence[Axes] | np.ndarray) -> None:
    lows, highs = zip(*(ax.get_ylim() for ax in axes))
    for ax in axes:
        ax.set_ylim(min(lows), max(highs))


def line_traces(data: xr.Dataset, *, window: int | None = None) -> matplotlib.figure.Figure:
    """Step size, slope and curvature along the run, where they were measured.

    Medians of each window over time (default: a hundredth of the run), then the mean
    over seeds, and bands from the lowest seed to the highest, on logarithmic axes.
    """
    panels, colours = _panels(data), _colours(data)
    window = window or max(1, data.sizes["step"] // 100)
    figure, axes = _figure(3, len(panels))
    for row, variable in enumerate(("step_size", "slope", "curvature")):
        for ax, (title, members) in zip(axes[row], panels):
            for name, label in members:
                values = data[variable].sel(strategy=name).transpose("seed", "step")
                if not np.isfinite(values).any():
                    continue
                coarse = abs(values).coarsen(step=window, boundary="trim")
                y = coarse.median().values  # pyright: ignore[reportAttributeAccessIssue]
                x = values.step.values[: y.shape[1] * window : window] + window / 2
                # A logarithmic axis has no place for a step of zero.
                y = np.where(y > 0, y, np.nan)
                _band(ax, x, y, colours[label], label)
            ax.set_title(title if row == 0 else "")
            _log_scale(ax)
        axes[row, 0].set_ylabel(_LABELS[variable])
    for ax in axes[-1]:
        ax.set_xlabel(_LABELS["step"])
    _legend(figure, axes)
    return figure


def metric_curves(data: xr.Dataset, metric: str) -> matplotlib.figure.Figure:
    """One of the problem's metrics, such as the test accuracy, against steps."""
    panels, colours = _panels(data), _colours(data)
    figure, axes = _figure(1, len(panels))
    for ax, (title, members) in zip(axes[0], panels):
        for name, label in members:
            one = data[metric].sel(strategy=name).transpose("seed", "evaluation_step")
            # The start is far from the rest, and the same for all.
            x, y = one.evaluation_step.values[1:], one.values[:, 1:]
            _band(ax, x, y, colours[label], label)
        ax.set_title(title)
        ax.set_xlabel(_LABELS["evaluation_step"])
    _share_limits(axes[0])
    axes[0, 0].set_ylabel(_LABELS.get(metric, metric.replace("_", " ")))
    _legend(figure, axes)
    return figure


def sensitivity(
    grid: xr.Dataset, metric: str, *, knob: str = "learning rate"
) -> matplotlib.figure.Figure:
    """The final metric against the grid of [`curvopt.run_grid`][]. A run that diverged
    counts as its value at initialisation."""
    from ._dataset import final_metric

    final = final_metric(grid, metric)
    panels, colours = _panels(grid), _colours(grid)
    figure, axes = _figure(1, len(panels))
    for ax, (title, members) in zip(axes[0], panels):
        for name, label in members:
            y = final.sel(strategy=name).transpose("seed", "value").values
            x = grid.value.values
            _band(ax, x, y, colours[label], label)
        ax.set_xscale("log")
        ax.set_title(title)
        ax.set_xlabel(knob)
        _log_scale(ax)
    _share_limits(axes[0])
    axes[0, 0].set_ylabel(f"final {_LABELS.get(metric, metric.replace('_', ' '))}")
    _legend(figure, axes)
    return figure
