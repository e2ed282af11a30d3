"""The best point of a grid, of each strategy."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

import curvopt


Points = Mapping[str, Mapping[str, float]]


def _at(data: xr.Dataset, name: str, point: Mapping[str, float]) -> xr.Dataset:
    # Not by a scalar: the strategy stays a dimension. Values are those of the grid itself.
    return data.sel(strategy=[name]).sel(dict(point))


def _joined(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    joined = xr.concat(
        parts,
        dim="strategy",
        data_vars="minimal",
        coords="different",
        compat="equals",
        join="exact",
        combine_attrs="override",
    )
    return joined  # pyright: ignore[reportReturnType]


def best_points(
    data: xr.Dataset, metric: str, hyperparameters: Sequence[str], lower_is_better: bool
) -> dict[str, dict[str, float]]:
    """By strategy, where its mean of the final metric is best; a run that diverged counts
    as its value at the start."""
    mean = curvopt.final_metric(data, metric).mean("seed")
    mean = mean.transpose("strategy", *hyperparameters)
    sign = 1 if lower_is_better else -1
    found = {}
    for name in mean.strategy.values:
        values = sign * mean.sel(strategy=name).values
        known = np.where(np.isfinite(values), values, np.inf)
        at = np.unravel_index(known.argmin(), known.shape)
        found[str(name)] = {
            knob: float(data[knob].values[k]) for knob, k in zip(hyperparameters, at)
        }
    return found


def at_points(data: xr.Dataset, points: Points, own: Points) -> xr.Dataset:
    """The study with each strategy at its own point. What it uses of that is a coordinate
    of the strategy, and `nan` is what it does not use."""
    parts = []
    for name, point in points.items():
        part = _at(data, name, point).drop_vars(list(point))
        used = own[name]
        values = {knob: ("strategy", [used.get(knob, np.nan)]) for knob in point}
        parts.append(part.assign_coords(values))
    return _joined(parts)


def along(data: xr.Dataset, points: Points, hyperparameter: str) -> xr.Dataset:
    """The study over one hyper-parameter, each strategy at its best values of the
    others."""
    parts = []
    for name, point in points.items():
        others = {knob: x for knob, x in point.items() if knob != hyperparameter}
        parts.append(_at(data, name, others).drop_vars(list(others)))
    return _joined(parts)


def edges(data: xr.Dataset, point: Mapping[str, float]) -> list[str]:
    """The hyper-parameters whose value is the lowest or highest of more than
    two."""
    return [
        knob
        for knob, x in point.items()
        if data.sizes[knob] > 2 and x in (data[knob].values.min(), data[knob].values.max())
    ]
