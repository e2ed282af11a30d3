import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr

from ._problem import AbstractProblem
from ._runs import as_study, was_run
from ._solver import LineSearchMinimiser
from ._study import Execution, final_metric, run_study, seed_numbers


@dataclasses.dataclass(frozen=True)
class BestPoint:
    """The best strategy and point of its grid, as [`curvopt.best_point`][] returns it.

    **Attributes:**

    - `strategy`: the name of the strategy.
    - `values`: the values of its hyper-parameters.
    - `score`: the mean of its final metric over the seeds.
    - `at_edge`: the hyper-parameters whose value is the lowest or highest of its grid;
        a wider grid may do better.
    - `cost`: gradient-equivalents that all runs of all the strategies spent.
    """

    strategy: str
    values: dict[str, float]
    score: float
    at_edge: tuple[str, ...]
    cost: float


def _grids(data: xr.Dataset) -> dict[str, dict[str, list[float]]]:
    """The values of each strategy's hyper-parameters; all values, if the dataset does not
    say which."""
    outer = ("strategy", "seed", "step", "evaluation_step")
    all_values = {str(k): data[k].values.tolist() for k in data.dims if k not in outer}
    own = json.loads(data.attrs.get("hyperparameters", "{}"))
    return {str(name): own.get(str(name), all_values) for name in data.strategy.values}


def best_point(
    data: xr.Dataset,
    metric: str,
    strategies: Sequence[str] | None = None,
    *,
    lower_is_better: bool = True,
) -> BestPoint:
    """Find the strategy, and the point of its grid, with the best mean final metric.

    A run that diverged counts as its value at the start.

    **Arguments:**

    - `data`: a dataset of [`curvopt.run_study`][].
    - `metric`: one of the metrics of the problem's `evaluate`.
    - `strategies`: the strategies to choose from; default all. Each is averaged over the
        seeds that it was run from.
    - `lower_is_better`: whether a lower metric is better.

    **Returns:**

    A [`curvopt.BestPoint`][].

    **Raises:**

    `ValueError` if there is no such metric or strategy, or the metric is finite nowhere.
    """
    data = as_study(data)
    final, ran, grids = final_metric(data, metric), was_run(data), _grids(data)
    if not isinstance(strategies, (list, tuple, type(None))):
        raise ValueError(
            "strategies must be a list of names, or None for all, but it is "
            f"{strategies!r}."
        )
    names = list(grids) if strategies is None else list(strategies)
    unknown = [name for name in names if str(name) not in grids]
    if unknown or not names:
        what = f"no strategy {unknown[0]!r}" if unknown else "no strategy to choose among"
        raise ValueError(f"there is {what}; there are: {', '.join(map(repr, grids))}.")
    best: BestPoint | None = None
    cost, sign = 0.0, 1 if lower_is_better else -1
    for name in names:
        grid = {knob: values for knob, values in grids[name].items() if knob in final.dims}
        # A strategy has the same runs at all values of a knob that it does not have.
        free = {k: 0 for k in final.dims if k not in ("strategy", "seed", *grid)}
        at = lambda x, own=(name, grid, free): x.sel(strategy=own[0], **own[1]).isel(own[2])
        cost += float(at(data.gradient_equivalents.isel(step=-1)).sum())
        score = at(final).isel(seed=np.flatnonzero(at(ran).any(list(grid)).values))
        score = score.mean("seed", skipna=False).transpose(*grid)
        # Points that were not run, or whose score is not finite, never win.
        known = np.where(np.isfinite(score.values), sign * score.values, np.inf)
        place = np.unravel_index(known.argmin(), known.shape)
        if np.isfinite(known[place]) and (best is None or known[place] < sign * best.score):
            values = {knob: x[k] for (knob, x), k in zip(grid.items(), place)}
            edges = [k for k, x in values.items() if x in (min(grid[k]), max(grid[k]))]
            best = BestPoint(name, values, float(score.values[place]), tuple(edges), 0.0)
    if best is None:
        raise ValueError(
            f"there is nothing to choose: {metric!r} is not finite at any point of the "
            "grid, not even at the start of the runs."
        )
    return dataclasses.replace(best, cost=cost)


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The choice that [`curvopt.tune`][] made.

    **Attributes:**

    - `family`: the name of the best family.
    - `values`: the chosen values of the hyper-parameters.
    - `solver`: the family's solver at these values.
    - `score`: the mean of its final metric over the tuning seeds.
    - `at_edge`: the hyper-parameters whose value is the lowest or highest of its grid; a
        wider grid may do better.
    - `cost`: gradient-equivalents that all tuning runs spent together.
    - `runs`: all tuning runs, a dataset of [`curvopt.run_study`][].
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
    """Choose a family and its hyper-parameters by a grid search on separate seeds.

    Every family is run with every combination of hyper-parameters from every tuning seed,
    for as many steps as the reported runs will have. The choice has the best mean final
    metric; a run that diverged counts as its value at the start. Report the cost of tuning
    as part of the baseline's.

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

    - `problem`: the problem to train on.
    - `families`: by name, functions of the hyper-parameters that return a solver.
    - `hyperparameters`: the grid, values by name, in order.
    - `metric`: one of the metrics of the problem's `evaluate`.
    - `seeds`: the tuning seeds.
    - `reported_seeds`: the seeds of the runs to be reported; none may be in `seeds`.
    - `steps`, `execution`, `folder`, `progress`: as in [`curvopt.run_study`][].
    - `lower_is_better`: whether a lower metric is better.

    **Returns:**

    A [`curvopt.Tuning`][].

    **Raises:**

    `ValueError` if a tuning seed is also a reported one, if there is no such metric, or as
    [`curvopt.run_study`][].

    Source: the protocol of DeepOBS (Schneider et al. 2019) and of AlgoPerf (Dahl et al.
    2023), restated; the mean over several seeds instead of one is this project's choice.
    """
    tuned_on = seed_numbers(seeds)
    both = sorted(set(tuned_on) & set(seed_numbers(reported_seeds)))
    if both:
        raise ValueError(
            f"seeds and reported_seeds must not overlap, but {both} are in both. Tune on "
            "other seeds, for example from 1,000,000 on."
        )
    if not hyperparameters:
        raise ValueError(
            "hyperparameters must have at least one name with values, but it is empty."
        )
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
    best = best_point(runs, metric, lower_is_better=lower_is_better)
    # Arrays, as the study passed them to the family.
    values = {name: jnp.asarray(x) for name, x in best.values.items()}
    return Tuning(
        family=best.strategy,
        values=best.values,
        solver=families[best.strategy](**values),
        score=best.score,
        at_edge=best.at_edge,
        cost=best.cost,
        runs=runs,
    )
