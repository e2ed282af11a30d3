"""The results of an experiment, read from its folder."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

import curvopt

from ._names import UsageError
from ._outline import Asked, Grids, is_loss, load_outline, Outline, STUDY, TUNING


Points = Mapping[str, curvopt.BestPoint]


@dataclasses.dataclass(frozen=True)
class Results:
    """The runs of an experiment and what a report shows of them.

    **Attributes:**

    - `outline`: what the experiment compares and reports.
    - `data`: the runs.
    - `points`: the best point of each strategy with hyper-parameters.
    - `best`: the runs with each strategy at its best point. The hyper-parameters are
        coordinates of the strategy, nan where it does not have them.
    - `tuning`: the runs of the candidates of each tuned strategy, named by the word that
        distinguishes them.
    - `tried`: all runs of the tuning, as in its folder.
    - `tuned`: the point chosen for each tuned strategy.
    - `comparison`: with the baselines, if there are any.
    """

    outline: Outline
    data: xr.Dataset
    points: Points
    best: xr.Dataset
    tuning: Mapping[str, xr.Dataset]
    tried: xr.Dataset | None
    tuned: Points
    comparison: curvopt.Comparison | None


def metrics_of(data: xr.Dataset) -> list[str]:
    """The names of the problem's metrics."""
    return [str(k) for k, v in data.items() if "evaluation_step" in v.dims]


def hyperparameters_of(data: xr.Dataset) -> list[str]:
    """The dimensions that are hyper-parameters."""
    others = ("strategy", "seed", "step", "evaluation_step")
    return [str(dim) for dim in data.dims if dim not in others]


def grids_of(data: xr.Dataset) -> Grids:
    """The values of each hyper-parameter, by strategy."""
    return json.loads(data.attrs["hyperparameters"])


def _selected(data: xr.Dataset, asked: Asked | None) -> xr.Dataset:
    """The runs that were asked for, out of all runs in a folder."""
    if asked is None:
        return data
    missing = [name for name in asked.grids if name not in data.strategy.values]
    if missing:
        raise UsageError(
            f"the folder has no runs of {', '.join(map(repr, missing))} yet. Repeat the "
            "command that makes them: it resumes."
        )
    data = data.sel(strategy=list(asked.grids))
    seeds = set(asked.seeds)
    data = data.sel(seed=[x for x in data.seed.values.tolist() if x in seeds])
    for knob in hyperparameters_of(data):
        values = {x for own in asked.grids.values() for x in own.get(knob, ())}
        own = [x for x in data[knob].values.tolist() if x in values]
        data = data.sel({knob: own}) if own else data.isel({knob: 0}, drop=True)
    return data.assign_attrs(hyperparameters=json.dumps(asked.grids))


def _joined(parts: list[xr.Dataset]) -> xr.Dataset:
    joined = xr.concat(
        parts,
        dim="strategy",
        data_vars="minimal",
        coords="different",
        compat="equals",
        join="outer",
        combine_attrs="override",
    )
    return joined  # pyright: ignore[reportReturnType]


def along(data: xr.Dataset, points: Points, hyperparameter: str) -> xr.Dataset | None:
    """The runs along one hyper-parameter for the strategies that have it, each at its best
    values of the others; `None` if there is nothing to draw on a logarithmic axis."""
    parts = []
    for name, point in points.items():
        if hyperparameter not in point.values:
            continue
        own = data.sel(strategy=[name])
        for knob in hyperparameters_of(data):
            if knob != hyperparameter:
                own = _at(own, knob, point.values)
        parts.append(own)
    if not parts or data.sizes[hyperparameter] < 2 or (data[hyperparameter] <= 0).any():
        return None
    return _joined(parts)


def _at(data: xr.Dataset, knob: str, point: Mapping[str, float]) -> xr.Dataset:
    """The runs at a strategy's own value of a hyper-parameter."""
    if knob in point:
        return data.sel({knob: point[knob]}, drop=True)
    # The strategy does not depend on it: its runs are the same at every value.
    return data.isel({knob: 0}, drop=True)


def _at_points(data: xr.Dataset, points: Points) -> xr.Dataset:
    """Each strategy at its best point. Only the time of its whole grid is known, so that
    each point gets an equal share of it."""
    grids, knobs = grids_of(data), hyperparameters_of(data)
    if not knobs:
        return data
    parts = []
    for name in map(str, data.strategy.values):
        own, point = (
            data.sel(strategy=[name]),
            points[name].values if name in points else {},
        )
        for knob in knobs:
            own = _at(own, knob, point)
        share = np.prod([len(values) for values in grids[name].values()])
        values = {knob: ("strategy", [point.get(knob, np.nan)]) for knob in knobs}
        parts.append(own.assign(seconds=own.seconds / share).assign_coords(values))
    return _joined(parts)


def _renamed(data: xr.Dataset, prefix: str) -> xr.Dataset:
    """The runs with a prefix removed from the strategies' names."""
    short = {str(name): str(name).removeprefix(prefix) for name in data.strategy.values}
    grids = {short[name]: own for name, own in grids_of(data).items()}
    return data.assign_coords(strategy=list(short.values())).assign_attrs(
        hyperparameters=json.dumps(grids)
    )


def _best(data: xr.Dataset, outline: Outline, *strategies: str) -> curvopt.BestPoint:
    """The point with the best metric, among some strategies or all."""
    return curvopt.best_point(
        data,
        outline.metric,
        strategies or None,
        lower_is_better=outline.lower_is_better,
    )


def best_points(data: xr.Dataset, outline: Outline) -> Points:
    """The best point of each strategy with hyper-parameters."""
    grids = grids_of(data)
    return {name: _best(data, outline, name) for name, own in grids.items() if own}


def _labelled(data: xr.Dataset, labels: Mapping[str, tuple[str, str]]) -> xr.Dataset:
    """The runs with direction and line search as coordinates of the strategies."""
    own = [labels.get(str(name)) for name in data.strategy.values]
    if not labels or None in own:
        return data
    parts = zip(("direction", "line_search"), zip(*own))
    return data.assign_coords({part: ("strategy", list(x)) for part, x in parts})


def _outline(
    folder: Path,
    data: xr.Dataset,
    metric: str | None,
    baseline: str | None,
    lower_is_better: bool | None,
) -> Outline:
    """The folder's outline, with the given arguments in place of its own."""
    saved, metrics = load_outline(folder), metrics_of(data)
    metric = metric or (saved.metric if saved else metrics[0])
    if metric not in metrics:
        raise UsageError(f"unknown metric {metric!r}; valid are: {', '.join(metrics)}.")
    if saved and metric == saved.metric and lower_is_better is None:
        lower_is_better = saved.lower_is_better
    outline = saved or Outline(metric, title=folder.resolve().name)
    return dataclasses.replace(
        outline,
        metric=metric,
        baseline=baseline or outline.baseline,
        lower_is_better=is_loss(metric, lower_is_better),
    )


def load_results(
    folder: Path,
    metric: str | None = None,
    baseline: str | None = None,
    lower_is_better: bool | None = None,
) -> Results:
    """Read the results in a folder. Nothing is compiled, and the problem is not needed.

    **Arguments:**

    - `folder`: the folder of an experiment, or of [`curvopt.run_study`][].
    - `metric`, `baseline`, `lower_is_better`: replace the experiment's own. Without an
        experiment the defaults are the first metric, none and true.

    **Raises:**

    `ValueError` listing the valid metrics or strategies; [`curvopt.StudyError`][] if there
    is no study, or a damaged one.
    """
    inner = folder / STUDY
    data = curvopt.load_study(inner if (inner / "study.sqlite").exists() else folder)
    outline = _outline(folder, data, metric, baseline, lower_is_better)
    data = _labelled(_selected(data, outline.runs), outline.labels)
    points = best_points(data, outline)
    tried = curvopt.load_study(folder / TUNING) if outline.tuned else None
    tuning = {
        name: _renamed(_selected(tried, asked), f"{name}, ")
        for name, asked in outline.tuned.items()
        if tried is not None
    }
    at_best = _at_points(data, points)
    comparison = None
    if outline.baseline is not None:
        comparison = curvopt.compare(
            at_best,
            outline.metric,
            baseline=outline.baseline,
            lower_is_better=outline.lower_is_better,
        )
    tuned = {name: _best(runs, outline) for name, runs in tuning.items()}
    return Results(outline, data, points, at_best, tuning, tried, tuned, comparison)
