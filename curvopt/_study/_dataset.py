"""Runs as labelled arrays: the dataset of a study."""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Int

from ._records import blank, COUNTS, DEFINITIONS, FINITE, Records, UNITS


Point = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The runs of one strategy.

    **Attributes:**

    - `text`: the strategy as text.
    - `points`, `seeds`: the values of the hyper-parameters and the seed of each run.
    - `records`: what they recorded.
    - `costs`: in gradient-equivalents, for `"step"` (the part before the line search) and
        for each kind of evaluation; unknown ones are left out.
    - `seconds`, `compile_seconds`: wall time.
    - `execution`: how they were run.
    """

    text: str
    points: Sequence[Point]
    seeds: Sequence[int]
    records: Records
    costs: Mapping[str, float]
    seconds: float
    compile_seconds: float
    execution: Any


def _diverged_at(
    loss: np.ndarray,
    made: Int[np.ndarray, " runs"],
    finite: np.ndarray,
    evaluated: Bool[np.ndarray, "runs evaluations"],
    schedule: Int[np.ndarray, " evaluations"],
) -> Int[np.ndarray, " runs"]:
    """The step from which on each run has diverged; -1 if it has not. From there on its
    loss is not finite, or its parameters are not: not every loss depends on all of them."""
    # `never` is later than any step.
    steps, never = np.arange(loss.shape[1]), loss.shape[1] + 1
    good = np.isfinite(loss) & (steps < made[:, None])
    first = np.where(good, steps + 1, 0).max(axis=1, initial=0)
    sound = evaluated & (finite == 1)
    last_sound = np.where(sound, schedule, -1).max(axis=1)
    # The first evaluation from which on the parameters were not finite.
    lost = np.where(evaluated & (schedule > last_sound[:, None]), schedule, never)
    # The last loss says nothing about the parameters after the step: if these are finite,
    # the run is sound.
    saved = (first == made - 1) & (last_sound == made)
    by_loss = np.where((first < made) & ~saved, first, never)
    found = np.minimum(by_loss, lost.min(axis=1))
    lost_at = np.where(found < never, np.minimum(found, made - 1), -1)
    return np.where(made > 0, lost_at, -1).astype(np.int32)


def _stopped(name: str, x: np.ndarray, after: np.ndarray) -> np.ndarray:
    """A record with blanks where nothing was recorded, or after its run diverged: nan for
    metrics and measurements, zero for counts and guards."""
    counted = name.startswith(("evaluated_", "guard_"))
    if counted or not after.any():
        return np.where(after, 0, x).astype(x.dtype)
    return np.where(after, np.nan, x).astype(np.result_type(x.dtype, np.float32))


def _variables(
    outcome: Outcome,
) -> tuple[dict[str, np.ndarray], dict, dict[str, np.ndarray]]:
    """One strategy's variables: by step, by evaluation, and by run."""
    records = outcome.records
    loss, made = records.steps["loss"], records.made
    finite = records.evaluations[FINITE]
    diverged_at = _diverged_at(loss, made, finite, records.evaluated, records.schedule)
    end = np.where(diverged_at < 0, made - 1, np.minimum(diverged_at, made - 1))[:, None]
    after = np.arange(loss.shape[1]) > end
    late = (records.schedule > np.where(diverged_at < 0, made, diverged_at)[:, None]) | (
        ~records.evaluated
    )
    costs = outcome.costs
    spent = np.where(after, 0.0, costs.get("step", np.nan))
    for count, kind in COUNTS.items():
        times = records.steps[f"evaluated_{count}"]
        if times.any():
            spent += np.where(after, 0, times) * costs.get(kind, np.nan)
    spent = spent.cumsum(axis=1)
    spent[np.arange(loss.shape[1]) >= made[:, None]] = np.nan
    by_step = {name: _stopped(name, x, after) for name, x in records.steps.items()}
    by_evaluation = {
        name: _stopped(name, x, late)
        for name, x in records.evaluations.items()
        if name != FINITE
    }
    by_run = {
        "diverged_at": diverged_at,
        "stopped_at": records.stopped_at.astype(np.int32),
        "steps_made": made.astype(np.int32),
    }
    return by_step | {"gradient_equivalents": spent}, by_evaluation, by_run


def _axis(values: Sequence[Sequence[float]]) -> list[float]:
    """The values of a hyper-parameter over all strategies, in the given order if they
    agree, otherwise sorted."""
    distinct = [list(dict.fromkeys(own)) for own in values]
    if all(own == distinct[0] for own in distinct):
        return distinct[0]
    return sorted({x for own in distinct for x in own})


# Steps that are -1 where what they mark did not happen.
_STEPS = ("diverged_at", "stopped_at")


class _Array:
    """An array over all strategies, filled one strategy after another."""

    def __init__(self, shape: tuple[int, ...]):
        self._shape = shape
        self.parts: list[tuple[tuple, np.ndarray]] = []

    def array(self, name: str) -> np.ndarray:
        dtype = np.result_type(*(x.dtype for _, x in self.parts))
        filled = sum(len(x) for _, x in self.parts) == int(np.prod(self._shape))
        counted = name.startswith(("evaluated_", "guard_"))
        if dtype.kind in "biu" and not filled and not counted:
            # Integers have no nan: a metric with gaps becomes floating-point.
            if name not in (*_STEPS, "steps_made"):
                dtype = np.result_type(dtype, np.float32)
        tail = self.parts[0][1].shape[1:]
        empty = -1 if name in _STEPS else blank(dtype)
        out = np.full((*self._shape, *tail), empty, dtype)
        for at, x in self.parts:
            out[at] = x
        return out


def dataset(
    outcomes: Mapping[str, Outcome], seeds: Sequence[int], attributes: Mapping[str, Any]
) -> xr.Dataset:
    """Runs as labelled arrays, with the dimensions
    `(strategy, *hyperparameters, seed, step)`.

    Missing runs are nan. A strategy that does not depend on a hyper-parameter is the same
    at all its values.

    **Arguments:**

    - `outcomes`: the runs by strategy.
    - `seeds`: the seeds, in order.
    - `attributes`: the attributes of the dataset.
    """
    names = list(dict.fromkeys(k for o in outcomes.values() for p in o.points for k in p))
    axes = {
        name: _axis(
            [[p[name] for p in o.points] for o in outcomes.values() if name in o.points[0]]
        )
        for name in names
    }
    schedule = np.unique(np.concatenate([o.records.schedule for o in outcomes.values()]))
    length = max(o.records.length for o in outcomes.values())
    shape = (len(outcomes), *map(len, axes.values()), len(seeds))
    dims = ("strategy", *axes, "seed")
    arrays: dict[str, tuple[tuple[str, ...], _Array]] = {}
    for k, outcome in enumerate(outcomes.values()):
        at, kept = _places(k, outcome, axes, seeds)
        by_step, by_evaluation, by_run = _variables(outcome)
        own = np.searchsorted(schedule, outcome.records.schedule)
        for kind, variables in (
            ("step", by_step),
            ("evaluation_step", by_evaluation),
            ("", by_run),
        ):
            for name, x in variables.items():
                if kind == "step":
                    x = _widened(x, np.arange(x.shape[1]), length, name)
                elif kind:
                    x = _widened(x, own, len(schedule), name)
                tail = (kind,) if kind else ()
                arrays.setdefault(name, ((*dims, *tail), _Array(shape)))
                arrays[name][1].parts.append((at, x[kept]))
    data = xr.Dataset(
        {name: (dims, x.array(name)) for name, (dims, x) in arrays.items()}
        | {
            "seconds": ("strategy", [o.seconds for o in outcomes.values()]),
            "compile_seconds": ("strategy", [o.compile_seconds for o in outcomes.values()]),
            "execution": ("strategy", [json.dumps(o.execution) for o in outcomes.values()]),
        },
        coords={
            "strategy": list(outcomes),
            **axes,
            "seed": list(seeds),
            "step": np.arange(length),
            "evaluation_step": schedule,
        },
        attrs=dict(attributes)
        | {
            "strategies": json.dumps({name: o.text for name, o in outcomes.items()}),
            "hyperparameters": json.dumps(
                {
                    name: {
                        k: list(dict.fromkeys(p[k] for p in o.points)) for k in o.points[0]
                    }
                    for name, o in outcomes.items()
                }
            ),
        },
    )
    for name, definition in DEFINITIONS.items():
        data[name].attrs["definition"] = definition
    for name, units in UNITS.items():
        data[name].attrs["units"] = units
    return data


def _widened(x: np.ndarray, at: Int[np.ndarray, " n"], size: int, name: str) -> np.ndarray:
    """An array whose last axis is placed at the indices `at` of a longer one."""
    if x.shape[1] == size:
        return x
    counted = name.startswith(("evaluated_", "guard_"))
    dtype = x.dtype if counted else np.result_type(x.dtype, np.float32)
    out = np.full((len(x), size), 0 if counted else np.nan, dtype)
    out[:, at] = x
    return out


def _places(
    k: int, outcome: Outcome, axes: Mapping[str, Sequence[float]], seeds: Sequence[int]
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The places of a strategy's runs in an array over all, and the run at each place. A
    run has a place for each value of the hyper-parameters that its strategy lacks."""
    index = {name: {x: i for i, x in enumerate(axis)} for name, axis in axes.items()}
    seed_at = {seed: i for i, seed in enumerate(seeds)}
    free = [name for name in axes if name not in outcome.points[0]]
    places, kept = [], []
    for run, (point, seed) in enumerate(zip(outcome.points, outcome.seeds)):
        for others in itertools.product(*(range(len(axes[name])) for name in free)):
            fixed = dict(zip(free, others))
            knobs = [
                fixed[name] if name in fixed else index[name][point[name]] for name in axes
            ]
            places.append((k, *knobs, seed_at[seed]))
            kept.append(run)
    columns = np.array(places, int).reshape(len(places), -1)
    return tuple(columns.T), np.array(kept, int)


def _last(data: xr.Dataset, name: str) -> xr.DataArray:
    """A metric at the last evaluation of each run."""
    values = data[name]
    if "steps_made" not in data:
        return values.isel(evaluation_step=-1, drop=True)
    made = data.steps_made
    # The last evaluation at or before the last step made.
    at = np.searchsorted(data.evaluation_step.values, made.values, side="right") - 1
    last = values.isel(evaluation_step=made.copy(data=np.maximum(at, 0)))
    return last.drop_vars("evaluation_step")


def ended_well(data: xr.Dataset, name: str) -> xr.DataArray:
    """Whether each run ended with a valid metric: it did not diverge."""
    last = _last(data, name)
    sound = last.copy(data=np.isfinite(last.values))
    return sound & (data.diverged_at < 0) if "diverged_at" in data else sound


def final_metric(data: xr.Dataset, name: str) -> xr.DataArray:
    """A metric at the end of every run; its value at the start if the run diverged.

    A run that diverged (`diverged_at` in the dataset, or a metric that is not finite)
    counts as a finite worst value, and is never dropped. Missing runs are nan.

    **Arguments:**

    - `data`: a dataset of [`curvopt.run_study`][].
    - `name`: one of the metrics of the problem's `evaluate`.

    **Returns:**

    The metric without its dimension `evaluation_step`.

    **Raises:**

    `ValueError` if `data` is no dataset or has no such metric, naming the valid ones.
    """
    if not isinstance(data, xr.Dataset):
        raise ValueError(f"data must be the dataset of a study, but it is {data!r}.")
    known = [str(k) for k, v in data.items() if "evaluation_step" in v.dims]
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"there is no metric {name!r}; there are: {', '.join(known)}.")
    first = data[name].isel(evaluation_step=0, drop=True)
    return _last(data, name).where(ended_well(data, name), first)
