"""Runs as labelled arrays."""

import dataclasses
import json
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from .._cost import EvaluationCosts
from .._direction import AbstractDirection
from ._record import COUNTS, DEFINITIONS, FINITE, UNITS
from ._run import Run


def _diverged_at(
    loss: Float[np.ndarray, "*lanes step"], finite: Int[np.ndarray, "*lanes"]
) -> Int[np.ndarray, "*lanes"]:
    """The first step from which on no loss is finite; -1 where the last one is, and where
    it is the last one alone and the parameters are finite."""
    steps = loss.shape[-1]
    good = np.isfinite(loss)
    after_last_good = steps - np.argmax(good[..., ::-1], axis=-1)
    first = np.where(good.any(axis=-1), after_last_good, 0)
    sound = good[..., -1] | ((first == steps - 1) & (finite == 1))
    return np.where(sound, -1, first).astype(np.int32)


def _stopped(name: str, x: np.ndarray, after: np.ndarray) -> np.ndarray:
    """A record without what came after its lane diverged: metrics and measurements are
    nan, counts and guards zero."""
    counted = name.startswith(("evaluated_", "guard_"))
    if counted or not after.any():
        return np.where(after, 0, x).astype(x.dtype)
    return np.where(after, np.nan, x).astype(np.result_type(x.dtype, np.float32))


def dataset(
    run: Run,
    axes: dict[str, int],
    direction: AbstractDirection,
    costs: EvaluationCosts,
) -> xr.Dataset:
    """One strategy's run, with dimensions `(*axes, step)`.

    **Arguments:**

    - `run`: the run.
    - `axes`: names and sizes of the axes that its lanes are, outermost first.
    - `direction`: that of one of its lanes.
    - `costs`: what its evaluations cost.
    """
    shaped = lambda x: x.reshape(*axes.values(), x.shape[-1])
    history = {name: shaped(x) for name, x in run.history.items()}
    evaluations = {name: shaped(x) for name, x in run.evaluations.items()}
    loss = history["loss"]
    diverged_at = _diverged_at(loss, evaluations.pop(FINITE)[..., -1])
    end = np.where(diverged_at < 0, loss.shape[-1], diverged_at)[..., None]
    steps = np.arange(loss.shape[-1])
    after = steps > end
    history = {name: _stopped(name, x, after) for name, x in history.items()}
    late = run.evaluation_steps > end
    evaluations = {name: _stopped(name, x, late) for name, x in evaluations.items()}

    spent = np.where(after, 0.0, costs.of_direction(direction))
    for count, kind in COUNTS.items():
        made = history[f"evaluated_{count}"]
        if made.any():
            spent += made * costs[kind]
    per_step = history | {"gradient_equivalents": spent.cumsum(axis=-1)}
    variables: dict[str, Any] = {k: ((*axes, "step"), x) for k, x in per_step.items()}
    variables |= {k: ((*axes, "evaluation_step"), x) for k, x in evaluations.items()}
    variables |= {
        "diverged_at": (tuple(axes), diverged_at),
        "seconds": run.seconds,
        "compile_seconds": run.choice.compile_seconds,
        "execution": json.dumps(dataclasses.asdict(run.choice)),
    }
    out = xr.Dataset(
        variables, coords={"step": steps, "evaluation_step": run.evaluation_steps}
    )
    for name, definition in DEFINITIONS.items():
        out[name].attrs["definition"] = definition
    for name, units in UNITS.items():
        out[name].attrs["units"] = units
    return out


def ended_well(data: xr.Dataset, name: str) -> xr.DataArray:
    """Whether each run ended with a metric that stands for it: it did not diverge."""
    last = data[name].isel(evaluation_step=-1)
    sound = last.copy(data=np.isfinite(last.values))
    return sound & (data.diverged_at < 0) if "diverged_at" in data else sound


def final_metric(data: xr.Dataset, name: str) -> xr.DataArray:
    """A metric at the end of every run; where a run diverged, its value at the start.

    A run that diverged (`diverged_at` in the dataset, or a metric that is not finite)
    counts as a finite worst value, and is never dropped.

    **Arguments:**

    - `data`: of [`curvopt.run_study`][].
    - `name`: one of the metrics of the problem's `evaluate`.

    **Returns:**

    The metric without its dimension `evaluation_step`.

    **Raises:**

    `ValueError` if there is no such metric, naming those that there are.
    """
    known = [str(k) for k, v in data.items() if "evaluation_step" in v.dims]
    if name not in known:
        raise ValueError(f"there is no metric {name!r}; there are: {', '.join(known)}.")
    values = data[name]
    last, first = values.isel(evaluation_step=-1), values.isel(evaluation_step=0)
    return last.where(ended_well(data, name), first)
