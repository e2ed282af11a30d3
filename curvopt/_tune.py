import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr

from ._problem import AbstractProblem
from ._solver import LineSearchMinimiser
from ._study import Execution, final_metric, run_study, seed_numbers


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What [`curvopt.tune`][] chose.

    **Attributes:**

    - `family`: which of the families is the best.
    - `values`: at which values of the hyper-parameters.
    - `solver`: the solver that it is there.
    - `score`: the mean of its final metric over the tuning seeds.
    - `at_edge`: the hyper-parameters whose value is the first or the last of its grid: a
        wider grid may do better.
    - `cost`: gradient-equivalents that tuning spent, all runs together.
    - `runs`: all of them, the dataset of [`curvopt.run_study`][].
    """

    family: str
    values: dict[str, float]
    solver: LineSearchMinimiser
    score: float
    at_edge: tuple[str, ...]
    cost: float
    runs: xr.Dataset


def tune(
    problem: AbstractProblem,
    families: Mapping[str, Callable[..., LineSearchMinimiser]],
    hyperparameters: Mapping[str, Sequence[float]],
    *,
    metric: str,
    seeds: int | Sequence[int],
    reported_seeds: int | Sequence[int],
    steps: int,
    lower_is_better: bool = True,
    execution: Execution = Execution(),
    folder: str | os.PathLike | None = None,
    progress: bool = True,
) -> Tuning:
    """Choose among families and hyper-parameters, by a grid on seeds of its own.

    Every family is run with every combination of hyper-parameters from every tuning seed,
    for as many steps as the runs that will be reported; the choice is the best mean of the
    final metric, where a run that diverged counts as its value at the start. What that cost
    belongs to the baseline's bill.

    ```python
    schedules = {"constant": None, "cosine": optax.cosine_decay_schedule(1.0, 1000)}
    tuning = curvopt.tune(
        problem,
        {
            name: lambda rate, s=s: LineSearchMinimiser(SGD(), LearningRate(rate, s))
            for name, s in schedules.items()
        },
        {"rate": np.geomspace(1e-3, 1, 7)},
        metric="train_loss",
        seeds=[1000, 1001],
        reported_seeds=8,
        steps=1000,
    )
    ```

    **Arguments:**

    - `problem`: what to train.
    - `families`: by name, functions of the hyper-parameters that return a solver.
    - `hyperparameters`: the grid, values by name, in order.
    - `metric`: one of the metrics of the problem's `evaluate`.
    - `seeds`: of the tuning.
    - `reported_seeds`: of the runs that will be reported; none may be among `seeds`.
    - `steps`, `execution`, `folder`, `progress`: as in [`curvopt.run_study`][].
    - `lower_is_better`: whether the metric is to be small.

    **Returns:**

    A [`curvopt.Tuning`][].

    **Raises:**

    `ValueError` if a seed is to be reported as well, there is no such metric, or as
    [`curvopt.run_study`][].

    Source: the protocol of DeepOBS (Schneider et al. 2019) and of AlgoPerf (Dahl et al.
    2023), restated; a mean over several seeds in place of one is this project's.
    """
    tuned_on = seed_numbers(seeds)
    both = sorted(set(tuned_on) & set(seed_numbers(reported_seeds)))
    if both:
        raise ValueError(
            f"seeds that are reported must not be tuned on, but {both} are in both. Take "
            "others for tuning, for example from 1,000,000 on."
        )
    if not hyperparameters:
        raise ValueError("there are no hyperparameters to tune.")
    runs = run_study(
        problem,
        families,
        seeds=tuned_on,
        steps=steps,
        hyperparameters=hyperparameters,
        evaluations=1,
        execution=execution,
        folder=folder,
        progress=progress,
    )
    names = list(hyperparameters)
    score = final_metric(runs, metric).mean("seed", skipna=False)
    score = score.transpose("strategy", *names)
    if not np.isfinite(score).any():
        raise ValueError(
            f"there is nothing to choose: {metric!r} is not finite at any point of the "
            "grid, not even at the start of the runs."
        )
    worst = np.inf if lower_is_better else -np.inf
    known = np.where(np.isfinite(score.values), score.values, worst)
    best = known.argmin() if lower_is_better else known.argmax()
    which, *at = (int(k) for k in np.unravel_index(best, score.shape))
    family = str(runs.strategy.values[which])
    values = {name: float(runs[name].values[k]) for name, k in zip(names, at)}
    edges = [(0, runs.sizes[name] - 1) for name in names]
    return Tuning(
        family=family,
        values=values,
        solver=families[family](**{k: jnp.asarray(x) for k, x in values.items()}),
        score=float(score.values[which, *at]),
        at_edge=tuple(name for name, k, edge in zip(names, at, edges) if k in edge),
        cost=float(runs.gradient_equivalents.isel(step=-1).sum()),
        runs=runs,
    )
