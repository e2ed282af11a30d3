import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from curvopt._environment import versions

from ._measure import Measured, Run
from ._prices import Prices
from ._solvers import Solver
from ._target import first_reaching, lowest_value, target_value


_COUNTS = {kind: f"{kind}s" if kind != "loss" else "losses" for kind in Prices._fields}


def _row(run: Run, prices: Prices, target: float) -> dict[str, Any]:
    """The variables of a run."""
    at = first_reaching(run.values, target)
    spent = run.total if at is None else run.counts[at]
    cost = float("inf") if at is None else float(np.dot(spent, prices))
    whole = float(np.dot(run.total, prices))
    return {
        "cost_to_target": cost,
        "seconds_to_target": cost if at is None else run.seconds * cost / whole,
        "solved": at is not None,
        "final_value": run.values[-1] if run.values.size else np.nan,
        **{name: int(count) for name, count in zip(_COUNTS.values(), spent)},
        "points": run.values.size,
        "cost": whole,
        "seconds": run.seconds,
        "compile_seconds": run.compile_seconds,
        "failure": run.failure,
    }


def dataset(
    measured: Sequence[Measured],
    solvers: Mapping[str, Solver],
    tolerance: float,
    attributes: Mapping[str, str],
) -> xr.Dataset:
    """All measurements, of dimensions `(solver, problem)`.

    `cost_to_target` is in C, infinite if the target was missed; `seconds_to_target` is the
    same share of the time of the whole run. `losses`, `gradients`,
    `curvatures` and `slopes` count evaluations up to the target, or of the whole run if it
    was missed. `cost`, `points` and `seconds` are of the whole run.

    **Arguments:**

    - `measured`: the measured problems, at least one.
    - `solvers`: all solvers, in the order of the dataset.
    - `tolerance`: the share of the way to the lowest value that the target leaves.
    - `attributes`: attributes of the dataset, besides the versions.
    """
    lowest = [
        lowest_value((run.values for run in m.runs.values()), m.problem.minimum)
        for m in measured
    ]
    targets = [target_value(m.value, low, tolerance) for m, low in zip(measured, lowest)]
    rows = [
        [_row(m.runs[name], m.prices, target) for m, target in zip(measured, targets)]
        for name in solvers
    ]
    minima = [np.nan if m.problem.minimum is None else m.problem.minimum for m in measured]
    return xr.Dataset(
        {
            name: (
                ("solver", "problem"),
                np.array([[r[name] for r in row] for row in rows]),
            )
            for name in rows[0][0]
        },
        coords={
            "solver": list(solvers),
            "label": ("solver", [solver.label for solver in solvers.values()]),
            "ours": ("solver", [solver.ours for solver in solvers.values()]),
            "problem": [m.problem.name for m in measured],
            "unknowns": ("problem", [m.unknowns for m in measured]),
            "start_value": ("problem", [m.value for m in measured]),
            "known_minimum": ("problem", np.array(minima, float)),
            "lowest_value": ("problem", lowest),
            "target_value": ("problem", targets),
            **{
                f"price_{kind}": ("problem", [getattr(m.prices, kind) for m in measured])
                for kind in Prices._fields
            },
        },
        attrs={
            "versions": json.dumps(versions()),
            "tolerance": tolerance,
            **attributes,
        },
    )
