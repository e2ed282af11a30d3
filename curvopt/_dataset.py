"""Runs as labelled arrays."""

from typing import Any

import numpy as np
import xarray as xr

from ._cost import EvaluationCosts
from ._direction import AbstractDirection
from ._run import Run


_DEFINITIONS = {
    "loss": "mini-batch loss where the step began",
    "step_size": "step size tau in y + tau u",
    "slope": "<g, u> as the line search measured it; nan where it did not ask",
    "curvature": "<u, H u> as the line search measured it; nan where it did not ask",
    "gradient_equivalents": (
        "cost spent up to and including the step: XLA FLOPs of what was evaluated over "
        "those of one value-and-gradient"
    ),
    "seconds": "wall time of all steps of all lanes of the strategy",
    "compile_seconds": "wall time of compiling the strategy",
}

_GUARDS = ("ascent", "flat", "negative", "limited", "nonfinite", "exhausted")
_COUNTS = ("curvatures", "losses", "slopes", "gradients")


def dataset(
    run: Run,
    dims: tuple[str, ...],
    direction: AbstractDirection,
    costs: EvaluationCosts,
) -> xr.Dataset:
    """One strategy's run, with dimensions `(*dims, step)`.

    **Arguments:**

    - `run`: the run.
    - `dims`: names of its lane axes, outermost first.
    - `direction`: that of one of its lanes.
    - `costs`: what its evaluations cost.
    """
    record, metrics = run.history
    info = record.info
    spent = np.full(record.loss.shape, costs.of_direction(direction))
    for count, kind in zip(_COUNTS, ("curvature", "loss", "slope", "gradient")):
        made = getattr(info, count)
        if made.any():
            spent = spent + made * costs[kind]
    per_step: dict[str, Any] = {
        "loss": record.loss,
        "step_size": record.step_size,
        "slope": info.slope,
        "curvature": info.curvature,
        "gradient_equivalents": spent.cumsum(axis=-1),
        **{f"evaluated_{name}": getattr(info, name) for name in _COUNTS},
        # int8: netCDF has no booleans.
        **{f"guard_{name}": getattr(info.guards, name).astype(np.int8) for name in _GUARDS},
        **{f"batch_{name}": value for name, value in metrics.items()},
    }
    variables = {name: ((*dims, "step"), value) for name, value in per_step.items()}
    variables |= {
        name: ((*dims, "evaluation_step"), value) for name, value in run.evaluations.items()
    }
    out = xr.Dataset(
        variables | {"seconds": run.seconds, "compile_seconds": run.compile_seconds},
        coords={
            "step": np.arange(record.loss.shape[-1]),
            "evaluation_step": run.evaluation_steps,
        },
    )
    for name, definition in _DEFINITIONS.items():
        out[name].attrs["definition"] = definition
    for name in ("seconds", "compile_seconds"):
        out[name].attrs["units"] = "s"
    out["gradient_equivalents"].attrs["units"] = "C"
    return out


def final_metric(data: xr.Dataset, name: str) -> xr.DataArray:
    """A metric at the end of every run; where a run diverged, its value at the start.

    A run that diverged counts as a finite worst value, and is never dropped.

    **Arguments:**

    - `data`: of [`curvopt.run_study`][] or [`curvopt.run_grid`][].
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
