"""The results of a grid over one hyper-parameter: final values, the best one, its basin."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from .._runs import as_study, check_dimensions
from .._study import final_metric
from ..statistics._samples import mean
from ._labels import caption
from ._strategies import knobs, panels_of
from ._words import LABELS, words


Grids = xr.Dataset | Mapping[str, xr.Dataset]

# In decades, on both sides of a grid.
_MARGIN = 0.1


@dataclasses.dataclass(frozen=True)
class GridLine:
    """One strategy over its grid: the values that it tried, from low to high.

    **Attributes:**

    - `label`: the label of the strategy.
    - `x`: the values.
    - `y`: the final metric.
    - `diverged`: whether any seed diverged.
    - `lower_is_better`: whether the metric is a loss.
    """

    label: str
    x: Float[np.ndarray, " value"]
    y: Float[np.ndarray, "seed value"]
    diverged: Bool[np.ndarray, " value"]
    lower_is_better: bool

    @property
    def mean(self) -> Float[np.ndarray, " value"]:
        """The mean over seeds."""
        return np.array([mean(column) for column in self.y.T])

    @property
    def best(self) -> int:
        """The index of the value with the best mean."""
        return int(self.mean.argmin() if self.lower_is_better else self.mean.argmax())

    def basin(self, tolerance: float) -> tuple[float, float]:
        """The interval around the best value in which the mean is within a fraction of the
        best one, interpolated between the logarithms of the grid's values."""
        sign = 1 if self.lower_is_better else -1
        lost = sign * (self.mean - self.mean[self.best])
        outside = lost - tolerance * abs(self.mean[self.best])
        return self._end(outside, -1), self._end(outside, 1)

    def _end(self, outside: Float[np.ndarray, " value"], stride: int) -> float:
        """The end of the basin on one side; at the latest, the end of the grid."""
        logs, k = np.log(self.x), self.best
        while 0 <= k + stride < len(logs):
            if outside[k + stride] > 0:
                share = outside[k] / (outside[k] - outside[k + stride])
                return float(np.exp(logs[k] + share * (logs[k + stride] - logs[k])))
            k += stride
        return float(self.x[k])


@dataclasses.dataclass(frozen=True)
class GridPanel:
    """The strategies that share a knob.

    **Attributes:**

    - `title`: the title of the panel.
    - `knob`: the label of the hyper-parameter.
    - `lines`: one for each strategy.
    """

    title: str
    knob: str
    lines: Sequence[GridLine]

    @property
    def limits(self) -> tuple[float, float]:
        """The limits of the knob's axis."""
        x = np.concatenate([line.x for line in self.lines])
        return float(x.min() / 10**_MARGIN), float(x.max() * 10**_MARGIN)

    @property
    def decades(self) -> float:
        """The number of decades that the knob's axis spans."""
        low, high = self.limits
        return math.log10(high / low)


def as_grids(grids: Any) -> dict[str, xr.Dataset]:
    """One or several grids, checked, by name.

    **Raises:**

    `ValueError` if there is none, or one is not the dataset of a study.
    """
    if not isinstance(grids, Mapping) or isinstance(grids, xr.Dataset):
        return {"": as_study(grids, "grids")}
    if not grids:
        raise ValueError(
            "there is nothing to draw: grids is empty. Pass the dataset of a study with "
            "`hyperparameters`, or several by name."
        )
    return {
        str(title): as_study(grid, f"grids[{title!r}]") for title, grid in grids.items()
    }


def grid_panels(
    grids: Mapping[str, xr.Dataset],
    metric: str,
    *,
    knob: str | Mapping[str, str] | None,
    lower_is_better: bool,
) -> list[GridPanel]:
    """A panel for each grid; for a single grid, a panel for each of its directions."""
    dims = {title: _dimension(grid, metric) for title, grid in grids.items()}
    if list(grids) == [""]:
        listed = [(title, "", members) for title, members in panels_of(grids[""])]
    else:
        listed = [
            (title, title, [(str(s), str(s)) for s in grid.strategy.values])
            for title, grid in grids.items()
        ]
    found = []
    for title, key, members in listed:
        grid, dim = grids[key], dims[key]
        own = knob.get(title) if isinstance(knob, Mapping) else knob
        lines = [
            _line(grid, metric, dim, name, label, lower_is_better)
            for name, label in members
        ]
        drawn = [line for line in lines if line is not None]
        if not drawn:
            names = ", ".join(repr(name) for name, _ in members)
            raise ValueError(f"{metric!r} of {names} is finite at no value of {dim!r}.")
        name = caption(own) if own else LABELS.get(dim, words(grid, dim))
        found.append(GridPanel(title, name, drawn))
    return found


def _dimension(grid: xr.Dataset, metric: str) -> str:
    final_metric(grid, metric)  # raises if there is no such metric
    check_dimensions(grid, metric, "evaluation_step", further=True)
    found = knobs(grid, metric)
    if len(found) != 1:
        raise ValueError(
            f"{metric!r} must have one hyper-parameter as dimension, but it has "
            f"{', '.join(found) or 'none'}. Run the study with `hyperparameters`, and "
            "select all of them but one."
        )
    (dim,) = found
    values = grid[dim].values
    if values.dtype.kind not in "buif" or not (values > 0).all():
        raise ValueError(
            f"values of {dim!r} must be above 0, for a logarithmic axis, but they are "
            f"{values}."
        )
    return dim


def _line(
    grid: xr.Dataset, metric: str, dim: str, name: str, label: str, lower_is_better: bool
) -> GridLine | None:
    """A strategy, or `None` if it was run nowhere along the knob."""
    final = final_metric(grid, metric).sel(strategy=name).transpose("seed", dim).values
    last = grid[metric].sel(strategy=name).isel(evaluation_step=-1).transpose("seed", dim)
    x = grid[dim].values.astype(float)
    # Joined grids have seeds and values that a strategy did not try.
    own = np.isfinite(final).any(axis=1)
    tried = np.flatnonzero(np.all(np.isfinite(final[own]), axis=0))
    order = tried[np.argsort(x[tried])]
    if not own.any() or not len(order):
        return None
    return GridLine(
        label=label,
        x=x[order],
        y=final[np.ix_(own, order)].astype(float),
        diverged=np.logical_or.reduce(
            ~np.isfinite(last.values[np.ix_(own, order)]), axis=0
        ),
        lower_is_better=lower_is_better,
    )
