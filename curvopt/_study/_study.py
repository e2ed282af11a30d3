"""A study as the user describes it. It is checked once, and everything else reads it."""

import dataclasses
import functools
import inspect
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import xarray as xr

from .. import _compat
from .._checks import check_count, check_instance, is_reserved
from .._contract import check_problem
from .._describe import number, readable
from .._problem import AbstractProblem
from .._solver import LineSearchMinimiser
from ._evaluation import OnEvaluation
from ._execution import Execution
from ._options import Options
from ._session import finished_session


_MOST_SEEDS = 1_000_000


def seed_numbers(seeds: int | Sequence[int]) -> list[int]:
    """The seeds as a list: `0 .. n - 1` for an integer `n`.

    **Raises:**

    `ValueError` if they are not distinct integers in the range of seeds.
    """
    if isinstance(seeds, (int, np.integer)):
        return list(range(check_count("seeds", seeds, at_most=_MOST_SEEDS)))
    try:
        found = np.asarray(seeds if hasattr(seeds, "dtype") else list(seeds))
    except (TypeError, ValueError, OverflowError):
        found = np.asarray(np.nan)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(
            "seeds must be a number of seeds, or distinct integers, but they are "
            f"{seeds!r}."
        )
    numbers = found.tolist()
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds must be at least one and distinct, but are {numbers}.")
    if min(numbers) < 0 or max(numbers) >= 2**32:
        raise ValueError(f"seeds must be from 0 to 2**32 - 1, but are {numbers}.")
    return numbers


def _check_values(name: Any, values: Any) -> tuple[float, ...]:
    """The values of a hyper-parameter, checked."""
    if not isinstance(name, str) or not name.isidentifier() or is_reserved(name):
        raise ValueError(
            "the name of a hyper-parameter must be a Python identifier that has no other "
            f"meaning in the dataset of a study, but one is {name!r}."
        )
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError):
        array = np.asarray(np.nan)
    # In the dtype in which they will run: distinct values may coincide in float32.
    with np.errstate(over="ignore"):
        rounded = array.astype(jnp.result_type(float))
    if array.ndim != 1 or array.size == 0 or not np.isfinite(rounded).all():
        raise ValueError(
            f"the hyper-parameter {name!r} must have at least one value, all finite in "
            f"{rounded.dtype}, but they are {values!r}."
        )
    if len(set(rounded.tolist())) < array.size:
        raise ValueError(
            f"the values of {name!r} must be distinct in {rounded.dtype}, but they are "
            f"{array.tolist()}."
        )
    return tuple(array.tolist())


class Family:
    """A function from hyper-parameters to a solver, with a grid of their values.

    ```python
    sgd = curvopt.Family(
        lambda rate: curvopt.LineSearchMinimiser(SGD(), LearningRate(rate)),
        rate=np.geomspace(1e-3, 1, 9),
    )
    ```

    A study runs all combinations of the values by one compiled program, in which the
    hyper-parameters are data.

    **Arguments:**

    - `make`: the function; it takes the hyper-parameters by name and returns a solver.
    - `values`: the values of each, finite and distinct.

    **Raises:**

    `ValueError` naming the hyper-parameter and its values, or if `make` does not take them.
    """

    def __init__(
        self, make: Callable[..., LineSearchMinimiser], /, **values: Sequence[float]
    ):
        if not callable(make) or isinstance(make, LineSearchMinimiser):
            raise ValueError(
                f"the `make` of a family must be a function of {', '.join(values)} that "
                f"returns a solver, but it is {make!r}."
            )
        if not values:
            raise ValueError(
                "a family must have at least one hyper-parameter: pass `name=[values]`."
            )
        self.make = make
        self.values = {name: _check_values(name, own) for name, own in values.items()}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={list(own)}" for name, own in self.values.items())
        return f"Family({getattr(self.make, '__qualname__', self.make)}, {values})"


@dataclasses.dataclass(frozen=True)
class Strategy:
    """A strategy of a study, ready to run.

    **Attributes:**

    - `name`: its name.
    - `at`: maps values of the hyper-parameters to a solver.
    - `points`: the values at which it is run; a single solver has one empty point.
    - `solver`: the solver; for a family, its arrays have a leading axis of points.
    """

    name: str
    at: Callable[[Mapping[str, float]], LineSearchMinimiser]
    points: list[dict[str, float]]
    solver: LineSearchMinimiser

    @property
    def family(self) -> bool:
        return bool(self.points[0])

    @property
    def text(self) -> str:
        """The solver as one would write it; for a family, with all values of a number."""
        if not self.family:
            return readable(self.solver)

        def listed(x: Any) -> Any:
            if not eqx.is_array(x) or x.ndim != 1:
                return x
            values = list(dict.fromkeys(map(number, np.asarray(x))))
            return values if len(values) > 1 else x[0]

        return readable(jtu.tree_map(listed, self.solver))


_COMPOSE = "Compose one: `curvopt.LineSearchMinimiser(direction, line_search)`."
_MAKE_FAMILY = (
    "For a function of hyper-parameters, pass `hyperparameters`, or wrap it in "
    "`curvopt.Family(function, name=values)`."
)


def _is_function(x: Any) -> bool:
    return callable(x) and not isinstance(x, type)


def _strategy(name: Any, given: Any) -> Strategy:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"strategies must have strings as names, but one is {name!r}.")
    if isinstance(given, Family):
        return _family(name, given)
    remedy = _COMPOSE if not _is_function(given) else _MAKE_FAMILY
    check_instance(f"the strategy {name!r}", given, LineSearchMinimiser, remedy)
    return Strategy(name, lambda point: given, [{}], given)


def _family(name: str, family: Family) -> Strategy:
    takes = ", ".join(family.values)
    points = [
        dict(zip(family.values, point))
        for point in itertools.product(*family.values.values())
    ]
    try:
        inspect.signature(family.make).bind(**points[0])
    except TypeError as error:
        raise ValueError(
            f"the strategy {name!r} must be a function with the arguments {takes}: {error}."
        ) from error

    def at(point: Mapping[str, float]) -> LineSearchMinimiser:
        try:
            made: Any = family.make(**{k: jnp.asarray(x) for k, x in point.items()})
        except jax.errors.JAXTypeError as error:
            raise _needs_value(name, takes) from error
        check_instance(f"the result of the strategy {name!r}", made, LineSearchMinimiser)
        return made

    for point in points:  # a value that is out of range raises here, before any compiling
        at(point)
    # One trace of the function serves the whole grid.
    columns = {k: jnp.asarray([point[k] for point in points]) for k in family.values}
    try:
        solver: Any = eqx.filter_vmap(lambda columns: family.make(**columns))(columns)
    except jax.errors.JAXTypeError as error:
        raise _needs_value(name, takes) from error
    if _keeps_tracer(solver):
        raise _needs_value(name, takes)
    return Strategy(name, at, points, solver)


def _keeps_tracer(x: Any, depth: int = 12) -> bool:
    """Whether a function in an object closes over a traced value, which does not outlive
    its trace."""
    if _compat.is_traced(x):
        return True
    # `depth` bounds the recursion: closures may refer to themselves.
    inner = list(x) if isinstance(x, (tuple, list)) else []
    if dataclasses.is_dataclass(x):
        inner += [getattr(x, field.name, None) for field in dataclasses.fields(x)]
    inner += [cell.cell_contents for cell in getattr(x, "__closure__", None) or ()]
    if isinstance(x, functools.partial):
        inner += [x.func, *x.args, *x.keywords.values()]
    return depth > 0 and any(_keeps_tracer(own, depth - 1) for own in inner)


_WAY_OUT = (
    "for a schedule, a count, a choice or a function that keeps it, but one program runs "
    "all values. Make each value a strategy: `{'a': solver(1), 'b': solver(2)}`. An optax "
    "transformation takes its numbers as data if it is made with "
    "`optax.inject_hyperparams`: `FromOptax(optax.inject_hyperparams(optax.adam)(1e-3), "
    "hyperparameters={'learning_rate': learning_rate})`."
)


def _needs_value(name: str, takes: str) -> ValueError:
    return ValueError(
        f"the strategy {name!r} needs the concrete value of a hyper-parameter ({takes}), "
        f"{_WAY_OUT}"
    )


@dataclasses.dataclass(frozen=True)
class Study:
    """A problem, strategies with their grids, seeds and a number of steps: all that is run.

    It is a value: it is checked when it is made, and never changes.

    ```python
    study = curvopt.Study(problem, {"SGD": sgd, "Adam": adam}, seeds=8, steps=1000)
    data = study.run("results/first")
    ```

    **Arguments:**

    - `problem`: the problem to train on.
    - `strategies`: by name, solvers and [`curvopt.Family`][]s.
    - `seeds`: how many (`0 .. seeds - 1`), or which, as integers.
    - `steps`: how many steps each run makes.
    - `evaluations`: how many times to evaluate the problem's metrics, not counting the
        start.

    **Raises:**

    `ValueError` if there is no strategy, seeds repeat, a count is below 1, a value is out
    of its range, or the problem breaks its contract.
    """

    problem: AbstractProblem
    strategies: Mapping[str, LineSearchMinimiser | Family]
    seeds: Sequence[int]
    steps: int
    evaluations: int
    convolutions: bool

    def __init__(
        self,
        problem: AbstractProblem,
        strategies: Mapping[str, LineSearchMinimiser | Family],
        *,
        seeds: int | Sequence[int],
        steps: int,
        evaluations: int = 10,
    ):
        if not isinstance(strategies, Mapping):
            raise ValueError(
                "strategies must be solvers by name, {'SGD': solver, ...}, but they are "
                f"{strategies!r}."
            )
        if not strategies:
            raise ValueError("there is no strategy to run: pass at least one by name.")
        # The class is frozen.
        put = functools.partial(object.__setattr__, self)
        put("strategies", dict(strategies))
        put("seeds", tuple(seed_numbers(seeds)))
        put("steps", check_count("steps", steps))
        put("evaluations", check_count("evaluations", evaluations))
        parts = [_strategy(name, given) for name, given in strategies.items()]
        put("_parts", parts)
        taken = tuple({name: None for part in parts for name in part.points[0]})
        checked = check_problem(problem, taken)
        put("problem", checked.problem)
        put("convolutions", checked.convolutions)

    def parts(self) -> list[Strategy]:
        """The strategies, ready to run."""
        return self._parts  # pyright: ignore[reportAttributeAccessIssue]

    def run(
        self,
        folder: str | os.PathLike | None = None,
        *,
        execution: Execution = Execution(),
        save_every: float = 30.0,
        progress: bool = True,
        accept_versions: bool = False,
        rerun_damaged: bool = False,
        on_evaluation: OnEvaluation | None = None,
    ) -> xr.Dataset:
        """Run whatever is not in the folder yet: see [`curvopt.run_study`][]."""
        options = Options(
            execution, save_every, progress, accept_versions, rerun_damaged, on_evaluation
        )
        with finished_session(self, folder, options) as session:
            return session.dataset()


def run_study(
    problem: AbstractProblem,
    strategies: Mapping[str, Any],
    *,
    seeds: int | Sequence[int],
    steps: int,
    hyperparameters: Mapping[str, Sequence[float]] | None = None,
    evaluations: int = 10,
    execution: Execution = Execution(),
    folder: str | os.PathLike | None = None,
    save_every: float = 30.0,
    progress: bool = True,
    accept_versions: bool = False,
    rerun_damaged: bool = False,
    on_evaluation: OnEvaluation | None = None,
) -> xr.Dataset:
    """Run every strategy from every seed with every combination of its hyper-parameters.

    These can be thousands of runs: each strategy is one compiled program.

    ```python
    family = lambda learning_rate: curvopt.LineSearchMinimiser(
        SGD(), LearningRate(learning_rate)
    )
    curvopt.run_study(
        problem,
        {"SGD": family, "Adam": curvopt.LineSearchMinimiser(Adam(), LearningRate(1e-3))},
        hyperparameters={"learning_rate": np.geomspace(1e-3, 1, 9)},
        seeds=32,
        steps=1000,
        folder="results/rates",
    )
    ```

    A seed gives every strategy the same initial parameters and the same batches, so that
    strategies can be compared in pairs. A run whose loss becomes non-finite is recorded as
    it is, and does not affect any other.

    Runs are vmapped or made one after another, with steps in a compiled loop or one by one,
    as many at once as fit into memory: see [`curvopt.Execution`][]. They are distributed
    over all devices, and over all processes of `jax.distributed`; each process returns the
    whole dataset.

    With a `folder`, records and states are saved along the way. **The same study in the
    same folder resumes**, whenever it was killed, and ends with the same numbers, bit for
    bit on the same devices. **A larger study extends it**: more seeds, values, strategies
    or steps (if the strategies do not depend on the number of steps); only the missing runs
    and steps are made. An added seed equals the same seed of one larger study up to
    rounding, and bit for bit if it runs at the same width. If `evaluations` grows, a run
    has nan at the new ones that it had already passed. Ctrl-C, SIGTERM and SIGHUP stop the
    study with everything saved; in an interactive session, such as a notebook, Ctrl-C
    returns what there is. [`curvopt.load_study`][] and [`curvopt.load_run`][] read it back.

    **`on_evaluation` watches the runs**: it is called on the host with a
    [`curvopt.Evaluation`][] for each evaluation of each run, one call after another, and
    never twice for the same one, even if the study was killed between two saves and makes
    these steps again. If it returns `True` after at least one step, that run stops: its
    later records are nan, `stopped_at` has the step, and it stays stopped when the study is
    resumed or extended. The other runs do not change. Runs that have all diverged for good
    are not evaluated any more. An error of the function ends the study, once the runs that
    are evaluated together have all been reported, with everything saved. Of several
    processes, the one that makes a run calls it.

    **Arguments:**

    - `problem`: the problem to train on.
    - `strategies`: by name, solvers and [`curvopt.Family`][]s; with `hyperparameters` also
        functions of them that return a solver.
    - `seeds`: how many (`0 .. seeds - 1`), or which, as integers.
    - `steps`: how many steps each run makes.
    - `hyperparameters`: values by name, for all strategies that are functions. All
        combinations are run, as data of one program.
    - `evaluations`: how many times to evaluate the problem's metrics, not counting the
        start.
    - `execution`: how to run, a [`curvopt.Execution`][]; chosen automatically by default.
    - `folder`: the folder to save to.
    - `save_every`: seconds between two saves; the end is always saved.
    - `progress`: whether to show a bar, and how the study is run; without a terminal, an
        occasional line.
    - `accept_versions`: whether to make missing steps under other versions of jax and its
        like than the earlier steps; these are in the attribute `versions_before`.
    - `rerun_damaged`: whether to drop what was saved of damaged runs, and rerun them.
    - `on_evaluation`: a function that is called at each evaluation, and may stop runs.

    **Returns:**

    An `xarray.Dataset`. With dimensions `(strategy, *hyperparameters, seed, step)`: `loss`,
    `step_size`, `gradient_norm`, `slope`, `curvature`, `gradient_equivalents`, the numbers
    of evaluations, and which guards acted. With `evaluation_step` in place of `step`: the
    problem's metrics. Without either: `diverged_at`, `stopped_at` and `steps_made`. With
    `(strategy,)`: `seconds`, `compile_seconds` and `execution`. Values are nan where a
    strategy has no run; a single solver is the same at all values of the hyper-parameters.
    Definitions, units, the problem, the strategies and versions are attributes.

    **Raises:**

    `ValueError` as [`curvopt.Study`][], or if not even one lane fits into memory.
    [`curvopt.StudyError`][] if the folder is not writable, is damaged, or holds another
    study; the error lists the differences.
    """
    if not isinstance(hyperparameters, (Mapping, type(None))):
        raise ValueError(
            "hyperparameters must be values by name, {'learning_rate': [0.1, 1.0]}, but "
            f"they are {hyperparameters!r}."
        )
    made = strategies
    if hyperparameters and isinstance(strategies, Mapping):
        ready = LineSearchMinimiser, Family
        made = {
            name: given if isinstance(given, ready) else Family(given, **hyperparameters)
            for name, given in strategies.items()
        }
    study = Study(problem, made, seeds=seeds, steps=steps, evaluations=evaluations)
    return study.run(
        folder,
        execution=execution,
        save_every=save_every,
        progress=progress,
        accept_versions=accept_versions,
        rerun_damaged=rerun_damaged,
        on_evaluation=on_evaluation,
    )
