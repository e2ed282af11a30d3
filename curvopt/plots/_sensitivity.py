import math
from collections.abc import Mapping, Sequence

import matplotlib.figure
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .._checks import check_range
from ..statistics._samples import check_flag
from ._axes import log_axis, positive
from ._band import draw_band, draw_crosses, note_on_seeds
from ._beyond import Extent, mark_beyond, NOTE
from ._grids import as_grids, grid_panels, GridPanel, Grids
from ._labels import write
from ._panels import footnote, legend, styled
from ._strategies import looks_of
from ._style import inches, Look, Width
from ._words import words


# In inches: the least width of a panel, its height, and that of its title and label.
_NARROWEST, _TALL, _LABELS = 1.5, 1.35, 0.55

# In inches: a bar in the strip below the panel, and a line of the legend.
_BAR, _LINE = 0.075, 0.155

# In decades: the least width of a panel, so that its title has room.
_LEAST = 1.2

# Times the largest value at the start: higher values leave the panel.
_HIGHEST = 1.5


def _draw(ax: Axes, panel: GridPanel, look: dict[str, Look]) -> list[Extent]:
    extents = []
    for line in panel.lines:
        own, mean = look[line.label], line.mean
        extents.append(draw_band(ax, line.x, line.y, own, line.label))
        draw_crosses(ax, line.x[line.diverged], mean[line.diverged], own, clip=True)
        ax.plot(
            line.x[line.best],
            mean[line.best],
            marker="o",
            markersize=8,
            markeredgewidth=1.1,
            markerfacecolor="none",
            markeredgecolor=own.colour,
        )
    log_axis(ax, "x")
    if panel.title:
        write(ax.title, panel.title)
    return extents


def _draw_basins(
    ax: Axes, panel: GridPanel, look: dict[str, Look], tolerance: float
) -> None:
    """Draw a bar for each strategy, in the order of the legend."""
    rows = list(look)
    for line in panel.lines:
        own, row = look[line.label], rows.index(line.label)
        ax.plot(line.basin(tolerance), [row] * 2, color=own.colour, linewidth=2.2)
        ax.plot(
            line.x[line.best],
            row,
            marker=own.marker,
            markersize=own.size,
            color=own.colour,
            markeredgecolor="white",
        )
    ax.set_ylim(len(look) - 0.4, -0.6)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _bars(tolerance: float) -> str:
    return f"Bars: where the mean is within {100 * tolerance:g} % of the best."


def _handles(panels: Sequence[GridPanel]) -> dict[str, Line2D]:
    """Handles that explain rings and crosses."""

    def handle(marker: str, size: float, width: float) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="",
            color="#444444",
            marker=marker,
            markersize=size,
            markeredgewidth=width,
            markerfacecolor="none",
        )

    found = {"best": handle("o", 7.0, 0.9)}
    if any(line.diverged.any() for panel in panels for line in panel.lines):
        found["a run diverged"] = handle("x", 5.0, 1.2)
    return found


def _scale(
    ax: Axes, panels: Sequence[GridPanel], grids: Mapping[str, xr.Dataset], metric: str
) -> None:
    """Make a loss's axis logarithmic, up to `_HIGHEST` times its value at the start."""
    if not positive(line.y for panel in panels for line in panel.lines):
        return
    log_axis(ax, "y")
    starts = [grid[metric].isel(evaluation_step=0).max() for grid in grids.values()]
    highest = _HIGHEST * max(map(float, starts))
    lowest = min(line.y.min() for panel in panels for line in panel.lines)
    # If all runs ended above their start, the panel would be empty.
    if highest > lowest:
        ax.set_ylim(top=min(ax.get_ylim()[1], highest))


def sensitivity(
    grids: Grids,
    metric: str,
    *,
    knob: str | Mapping[str, str] | None = None,
    tolerance: float | None = 0.1,
    lower_is_better: bool = True,
    width: Width = "page",
) -> matplotlib.figure.Figure:
    r"""The final metric against a hyper-parameter (the knob), with the best value and the
    basin around it.

    ```python
    plots.sensitivity(
        {"raw": raw, "rescaled": rescaled},
        "train_loss",
        knob={"raw": r"learning rate $\tau$", "rescaled": r"learning rate $\ell$"},
    )
    ```

    Each of several grids has its own panel. The panels share the axis of the metric, and a
    decade of the knob has the same length in all of them, so that basins can be compared.
    Lines are means over seeds, bands reach from the lowest to the highest, and a ring marks
    the best mean. The bars below cover the values around the best one at which the mean is
    within `tolerance` of it. A run that diverged counts as its value at the start, and is
    marked by a cross.

    **Arguments:**

    - `grids`: a dataset of [`curvopt.run_study`][] with one hyper-parameter; or several by
        name. A single one has a panel for each direction, as in
        [`curvopt.plots.learning_curves`][].
    - `metric`: one of the metrics of the problem's `evaluate`.
    - `knob`: the label of the hyper-parameter, for all grids or by grid; default: its own
        name in words.
    - `tolerance`: a fraction of the best mean; `None` draws no bars.
    - `lower_is_better`: whether the metric is a loss, which has a logarithmic axis.
    - `width`: as in [`curvopt.plots.learning_curves`][].

    **Returns:**

    A `matplotlib` figure; its axes are the panels, then their strips of bars.

    **Raises:**

    `ValueError` if there is no grid or no such metric, or if a grid has no or several
    hyper-parameters, values that are not above 0, or a seed or a strategy twice.
    """
    if tolerance is not None:
        check_range("tolerance", tolerance, at_least=0)
    check_flag("lower_is_better", lower_is_better)
    checked = as_grids(grids)
    panels = grid_panels(checked, metric, knob=knob, lower_is_better=lower_is_better)
    labels = [line.label for panel in panels for line in panel.lines]
    look = looks_of(labels, checked.values())
    size = inches(width)
    rows = math.ceil(len(panels) / max(1, int(size / _NARROWEST)))
    columns = math.ceil(len(panels) / rows)
    strip = _BAR * (len(look) + 0.5)
    heights = [_TALL] if tolerance is None else [_TALL, strip]
    # In several rows the columns are equally wide: decades cannot all have one length.
    ratios = [max(p.decades, _LEAST) for p in panels] if rows == 1 else [1.0] * columns
    places = [divmod(k, columns) for k in range(len(panels))]
    with styled():
        figure = matplotlib.figure.Figure(figsize=(size, size), layout="constrained")
        grid = figure.add_gridspec(
            len(heights) * rows, columns, width_ratios=ratios, height_ratios=heights * rows
        )
        axes: list[Axes] = []
        extents: list[list[Extent]] = []
        for (row, column), panel in zip(places, panels):
            share = axes[0] if axes else None
            axes.append(figure.add_subplot(grid[len(heights) * row, column], sharey=share))
            extents.append(_draw(axes[-1], panel, look))
        lowest = axes
        if tolerance is not None:
            lowest = [
                figure.add_subplot(grid[2 * row + 1, column], sharex=ax)
                for (row, column), ax in zip(places, axes)
            ]
            for panel, ax, bars in zip(panels, axes, lowest):
                _draw_basins(bars, panel, look, tolerance)
                ax.tick_params(labelbottom=False)
        for (_, column), panel, ax, below in zip(places, panels, axes, lowest):
            ax.set_xlim(*panel.limits)
            write(below.xaxis.label, panel.knob)
            ax.tick_params(labelleft=column == 0)
            if column == 0:
                write(
                    ax.yaxis.label, f"final {words(next(iter(checked.values())), metric)}"
                )
            if column == 0 and tolerance is not None:
                name = f"within\n{100 * tolerance:g} %"
                below.set_ylabel(name, rotation=0, ha="right", va="center")
        if lower_is_better:
            _scale(axes[0], panels, checked, metric)
        beyond = [mark_beyond(ax, own) for ax, own in zip(axes, extents)]
        lines = legend(figure, look, _handles(panels)) + footnote(
            figure,
            note_on_seeds(len(line.y) for panel in panels for line in panel.lines),
            "" if tolerance is None else _bars(tolerance),
            NOTE if any(beyond) else "",
        )
        figure.set_figheight(rows * (sum(heights) + _LABELS) + _LINE * (lines + 1))
    return figure
