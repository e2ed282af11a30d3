"""Runs as labelled arrays."""

import dataclasses
import json
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int

from .._cost import EvaluationCosts
from .._direction import AbstractDirection
from ._record import COUNTS, DEFINITIONS, UNITS
from ._run import Run


def _diverged_at(loss: np.ndarray) -> Int[np.ndarray, "..."]:
    """The first step from which on no loss is finite; -1 where the last one is."""
    steps = loss.shape[-1]
    finite = np.isfinite(loss)
    after_last_finite = steps - np.argmax(finite[..., ::-1], axis=-1)
    first = np.where(finite.any(axis=-1), after_last_finite, 0)
    return np.where(finite[..., -1], -1, first).astype(np.int32)


def _stopped(name: str, x: np.ndarray, after: np.ndarray) -> np.ndarray:
    """A record without what came after its lane diverged."""
    if x.dtype.kind == "f":
        return np.where(after, np.nan, x).astype(x.dtype)
    return np.where(after, 0, x).astype(x.dtype)


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
    loss = history["loss"]
    diverged_at = _diverged_at(loss)
    steps = np.arange(loss.shape[-1])
    after = (diverged_at[..., None] >= 0) & (steps > diverged_at[..., None])
    if after.any():
        history = {name: _stopped(name, x, after) for name, x in history.items()}

    spent = np.where(after, 0.0, costs.of_direction(direction))
    for count, kind in COUNTS.items():
        made = history[f"evaluated_{count}"]
        if made.any():
            spent += made * costs[kind]
    per_step = history | {"gradient_equivalents": spent.cumsum(axis=-1)}
    variables: dict[str, Any] = {k: ((*axes, "step"), x) for k, x in per_step.items()}
    variables |= {
        name: ((*axes, "evaluation_step"), shaped(x)) for name, x in run.evaluations.items()
    }
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


def final_metric(data: xr.Dataset, name: str) -> xr.DataArray:
    """A metric at the end of every run; where a run diverged, its value at the start.

    A run that diverged counts as a finite worst value, and is never dropped.

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
    return last.where(np.isfinite(last), first)
