import contextlib
import inspect
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import xarray as xr

from .._checks import check_count, check_instance, check_metrics, is_reserved
from .._cost import EvaluationCosts
from .._problem import AbstractProblem
from .._solver import LineSearchMinimiser
from . import _lane
from ._configuration import description, strategy_configuration, study_configuration
from ._dataset import dataset
from ._execution import Execution
from ._interrupt import postponed_interrupt
from ._lanes import Lanes
from ._run import progress_bar, run
from ._store import StudyFolder
from ._versions import versions


def seed_numbers(seeds: int | Sequence[int]) -> list[int]:
    """Seeds as a list: `0 .. n - 1` for a number `n`.

    **Raises:**

    `ValueError` if they are no distinct integers in the range of seeds.
    """
    if isinstance(seeds, (int, np.integer)):
        return list(range(check_count("seeds", seeds)))
    found = np.asarray(seeds if hasattr(seeds, "dtype") else list(seeds))
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"seeds must be integers, but are {found.tolist()}.")
    numbers = found.tolist()
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds must be at least one and distinct, but are {numbers}.")
    if min(numbers) < 0 or max(numbers) >= 2**32:
        raise ValueError(f"seeds must be from 0 to 2**32 - 1, but are {numbers}.")
    return numbers


def _checked_grid(
    hyperparameters: Mapping[str, Sequence[float]] | None,
) -> dict[str, list[float]]:
    grid = {}
    for name, values in (hyperparameters or {}).items():
        if not isinstance(name, str) or not name.isidentifier() or is_reserved(name):
            raise ValueError(
                "a hyper-parameter is called by a Python identifier that means nothing "
                f"else in the dataset of a study, but one is called {name!r}."
            )
        try:
            array = np.asarray(values, dtype=float)
        except (TypeError, ValueError):
            array = np.asarray(np.nan)
        # As they will be run.
        with np.errstate(over="ignore"):
            rounded = array.astype(jnp.result_type(float))
        if array.ndim != 1 or array.size == 0 or not np.isfinite(rounded).all():
            raise ValueError(
                f"the hyper-parameter {name!r} must have at least one value, all finite in "
                f"{rounded.dtype}, but they are {values!r}."
            )
        if len(set(rounded.tolist())) < array.size:
            raise ValueError(
                f"values of {name!r} repeat in {rounded.dtype}: {array.tolist()}."
            )
        grid[name] = array.tolist()
    return grid


def _points(grid: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """All combinations of the values, the last hyper-parameter fastest."""
    return [dict(zip(grid, point)) for point in itertools.product(*grid.values())]


_Strategy = LineSearchMinimiser | Callable[..., LineSearchMinimiser]


def _solver(name: str, strategy: _Strategy, grid: dict[str, list[float]]) -> Any:
    """The solver of a strategy; with a grid, its arrays have an axis of its points."""
    if not grid:
        remedy = "Compose one: `curvopt.LineSearchMinimiser(direction, line_search)`."
        if callable(strategy) and not isinstance(strategy, type):
            remedy = "For functions of hyper-parameters, give `hyperparameters`."
        check_instance(f"the strategy {name!r}", strategy, LineSearchMinimiser, remedy)
        return strategy
    takes = ", ".join(grid)
    if not callable(strategy) or isinstance(strategy, LineSearchMinimiser):
        raise ValueError(
            f"with hyperparameters, the strategy {name!r} must be a function of {takes} "
            f"that returns a solver, but it is {strategy!r}."
        )
    points = _points(grid)
    try:
        inspect.signature(strategy).bind(**points[0])
    except TypeError as error:
        raise ValueError(
            f"the strategy {name!r} must be a function of {takes}, by these names: {error}."
        ) from error
    for point in points:  # the errors of single values, before anything is compiled
        made = strategy(**{k: jnp.asarray(x) for k, x in point.items()})
        check_instance(f"what the strategy {name!r} makes", made, LineSearchMinimiser)
    # One trace of the function serves the whole grid.
    columns = {k: jnp.asarray([point[k] for point in points]) for k in grid}
    try:
        return eqx.filter_vmap(lambda columns: strategy(**columns))(columns)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as e:
        raise ValueError(
            f"the strategy {name!r} needs the value of a hyper-parameter itself ({takes}), "
            "for a schedule, a count or a choice; but all values are run by one program. "
            "Make a strategy of each value: `{'a': solver(1), 'b': solver(2)}`."
        ) from e


def _lanes(solver: LineSearchMinimiser, seeds: list[int], points: int, per_lane: bool):
    """All lanes of a strategy, seeds fastest."""
    keys = jax.vmap(jr.key)(jnp.array(seeds, jnp.uint32))
    point, seed = np.divmod(np.arange(points * len(seeds)), len(seeds))
    return Lanes(solver, keys, point, seed, per_lane)


def _concat(parts: list[xr.Dataset]) -> xr.Dataset:
    return xr.concat(
        parts,
        dim="strategy",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )


def run_study(
    problem: AbstractProblem,
    strategies: Mapping[str, _Strategy],
    *,
    seeds: int | Sequence[int],
    steps: int,
    hyperparameters: Mapping[str, Sequence[float]] | None = None,
    evaluations: int = 10,
    execution: Execution = Execution(),
    folder: str | os.PathLike | None = None,
    save_every: float = 30.0,
    progress: bool = True,
) -> xr.Dataset:
    """Run every strategy from every seed, and with every combination of hyper-parameters:
    thousands of runs (*lanes*), each strategy one compiled program.

    ```python
    family = lambda learning_rate: curvopt.LineSearchMinimiser(
        SGD(), LearningRate(learning_rate)
    )
    rates = np.geomspace(1e-3, 1, 9)
    curvopt.run_study(
        problem,
        {"SGD": family},
        hyperparameters={"learning_rate": rates},
        seeds=32,
        steps=1000,
        folder="results/rates",
    )
    ```

    A seed gives the same initial parameters and the same batches to every strategy, so
    that they can be compared in pairs. A lane whose loss turns non-finite is recorded as
    it is, and touches no other.

    Lanes are vmapped or run one after another, steps in a compiled loop or one by one, as
    many at once as memory holds: see [`curvopt.Execution`][]. They are shared out over all
    devices, and over all processes of `jax.distributed`, each of which gets the whole
    dataset.

    With a `folder`, records and states are saved as it goes: the same study in the same
    folder goes on where it was, killed at whatever moment, and ends with the same numbers,
    bit for bit on the same machine. What is finished is not run again, and strategies can
    be added. Ctrl-C ends it with everything saved.

    **Arguments:**

    - `problem`: what to train.
    - `strategies`: solvers by name; with `hyperparameters`, functions of them that return
        a solver.
    - `seeds`: how many (`0 .. seeds - 1`), or which, as integers.
    - `steps`: how many steps each lane makes.
    - `hyperparameters`: values by name. All combinations are run; they are data of one
        program.
    - `evaluations`: how many times the problem's metrics are evaluated, after the start.
    - `execution`: how, where that is not to be chosen; a [`curvopt.Execution`][].
    - `folder`: where to save.
    - `save_every`: after how many seconds to save; at the end it always is.
    - `progress`: whether to show a bar, and what was chosen, where there is a terminal.

    **Returns:**

    An `xarray.Dataset` with dimensions `(strategy, *hyperparameters, seed, step)`: `loss`,
    `step_size`, `gradient_norm`, `slope`, `curvature`, `gradient_equivalents`, what was
    evaluated and which guards acted; with `evaluation_step` for `step`: the problem's
    metrics; without either: `diverged_at`; with `(strategy,)`: `seconds`,
    `compile_seconds` and `execution`. Definitions, units, the problem, the strategies and
    versions are attributes.

    **Raises:**

    `ValueError` if there is no strategy, seeds repeat, a count is below 1, or not even one
    lane fits into memory. [`curvopt.StudyError`][] if the folder cannot be written to, is
    damaged, or holds another study.
    """
    if not isinstance(strategies, Mapping):
        raise ValueError(
            "strategies must be solvers by name, {'SGD': solver, ...}, but they are "
            f"{strategies!r}."
        )
    check_instance("problem", problem, AbstractProblem)
    check_instance("execution", execution, Execution)
    numbers, grid = seed_numbers(seeds), _checked_grid(hyperparameters)
    if not strategies:
        raise ValueError("there is no strategy to run: pass at least one by name.")
    for name, n in (("steps", steps), ("evaluations", evaluations)):
        check_count(name, n)
    if not save_every >= 0:
        raise ValueError(f"save_every must be seconds, at least 0, but it is {save_every}.")
    for name in strategies:
        if not isinstance(name, str):
            raise ValueError(f"strategies must have strings as names, but one is {name!r}.")
    solvers = {name: _solver(name, s, grid) for name, s in strategies.items()}
    check_metrics(_lane.metrics(problem), tuple(grid))
    points = len(_points(grid))
    axes = {name: len(values) for name, values in grid.items()} | {"seed": len(numbers)}
    total = steps * len(numbers) * points * len(solvers)
    parts = []
    with contextlib.ExitStack() as stack:
        own = {}
        if folder is not None:
            common = {"seeds": numbers, "grid": grid, "steps": steps}
            configuration = study_configuration(problem, evaluations=evaluations, **common)
            store = stack.enter_context(StudyFolder(folder, configuration))
            own = {
                name: store.strategy(name, strategy_configuration(solver))
                for name, solver in solvers.items()
            }
        bar = stack.enter_context(progress_bar(total, "study", progress))
        interrupt = stack.enter_context(postponed_interrupt())
        for name, solver in solvers.items():
            if interrupt.asked:
                raise KeyboardInterrupt
            bar.set_description(name)
            out = run(
                problem,
                _lanes(solver, numbers, points, bool(grid)),
                steps=steps,
                evaluations=evaluations,
                execution=execution,
                bar=bar,
                interrupt=interrupt,
                folder=own.get(name),
                save_every=save_every,
            )
            first = jtu.tree_map(lambda x: x[0] if grid and eqx.is_array(x) else x, solver)
            costs = EvaluationCosts(problem, first.curvature)
            parts.append(dataset(out, axes, first.direction, costs))
    attributes = {
        "problem": description(problem),
        "strategies": json.dumps({k: description(v) for k, v in solvers.items()}),
        "steps": steps,
        "versions": json.dumps(versions()),
    }
    coordinates = {"strategy": list(solvers), "seed": numbers, **grid}
    return _concat(parts).assign_coords(coordinates).assign_attrs(attributes)
