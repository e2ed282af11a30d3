"""A study: what is asked. It is checked once, and everything else reads it."""

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
from ._execution import Execution
from ._session import run_session


def seed_numbers(seeds: int | Sequence[int]) -> list[int]:
    """Seeds as a list: `0 .. n - 1` for a number `n`.

    **Raises:**

    `ValueError` if they are no distinct integers in the range of seeds.
    """
    if isinstance(seeds, (int, np.integer)):
        return list(range(check_count("seeds", seeds)))
    try:
        found = np.asarray(seeds if hasattr(seeds, "dtype") else list(seeds))
    except (TypeError, ValueError, OverflowError):
        found = np.asarray(np.nan)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(
            f"seeds must be how many, or distinct integers, but they are {seeds!r}."
        )
    numbers = found.tolist()
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds must be at least one and distinct, but are {numbers}.")
    if min(numbers) < 0 or max(numbers) >= 2**32:
        raise ValueError(f"seeds must be from 0 to 2**32 - 1, but are {numbers}.")
    return numbers


def _check_values(name: Any, values: Any) -> tuple[float, ...]:
    """The values of a hyper-parameter; refuse what no grid can have."""
    if not isinstance(name, str) or not name.isidentifier() or is_reserved(name):
        raise ValueError(
            "a hyper-parameter is called by a Python identifier that means nothing else in "
            f"the dataset of a study, but one is called {name!r}."
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
        raise ValueError(f"values of {name!r} repeat in {rounded.dtype}: {array.tolist()}.")
    return tuple(array.tolist())


class Family:
    """Solvers that differ in numbers: a function of hyper-parameters, at all combinations
    of their values.

    ```python
    sgd = curvopt.Family(
        lambda rate: curvopt.LineSearchMinimiser(SGD(), LearningRate(rate)),
        rate=np.geomspace(1e-3, 1, 9),
    )
    ```

    All of them are one compiled program, in which the hyper-parameters are data.

    **Arguments:**

    - `make`: the function, of the hyper-parameters by name; it returns a solver.
    - `values`: the values of each, finite and distinct.

    **Raises:**

    `ValueError` naming the hyper-parameter and its values, or if `make` does not take them.
    """

    def __init__(
        self, make: Callable[..., LineSearchMinimiser], /, **values: Sequence[float]
    ):
        if not callable(make) or isinstance(make, LineSearchMinimiser):
            raise ValueError(
                f"a family must be a function of {', '.join(values)} that returns a "
                f"solver, but it is {make!r}."
            )
        if not values:
            raise ValueError("a family must have a hyper-parameter, `name=[values]`.")
        self.make = make
        self.values = {name: _check_values(name, own) for name, own in values.items()}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={list(own)}" for name, own in self.values.items())
        return f"Family({getattr(self.make, '__qualname__', self.make)}, {values})"


@dataclasses.dataclass(frozen=True)
class Strategy:
    """A strategy of a study, ready to be run.

    **Attributes:**

    - `name`: what it is called.
    - `at`: from values of the hyper-parameters to a solver.
    - `points`: the values at which it is run; of what is no family, one that has none.
    - `solver`: the solver; of a family, its arrays have an axis of points in front.
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
        """The solver as a reader writes it; of a family, with all values of a number."""
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
    "For functions of hyper-parameters, give `hyperparameters`, or make it a "
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
            f"the strategy {name!r} must be a function of {takes}, by these names: {error}."
        ) from error

    def at(point: Mapping[str, float]) -> LineSearchMinimiser:
        try:
            made: Any = family.make(**{k: jnp.asarray(x) for k, x in point.items()})
        except jax.errors.JAXTypeError as error:
            raise _needs_value(name, takes) from error
        check_instance(f"what the strategy {name!r} makes", made, LineSearchMinimiser)
        return made

    for point in points:  # the errors of single values, before anything is compiled
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
    """Whether a function in an object has a traced value in its closure, which ends with
    the trace."""
    if _compat.is_traced(x):
        return True
    inner = list(x) if isinstance(x, (tuple, list)) else []
    if dataclasses.is_dataclass(x):
        inner += [getattr(x, field.name, None) for field in dataclasses.fields(x)]
    inner += [cell.cell_contents for cell in getattr(x, "__closure__", None) or ()]
    if isinstance(x, functools.partial):
        inner += [x.func, *x.args, *x.keywords.values()]
    return depth > 0 and any(_keeps_tracer(own, depth - 1) for own in inner)


_WAY_OUT = (
    "for a schedule, a count, a choice or a function that keeps it; but all values are run "
    "by one program. Make a strategy of each value: `{'a': solver(1), 'b': solver(2)}`. An "
    "optax transformation takes its numbers as data where it was made by "
    "`optax.inject_hyperparams`: `FromOptax(optax.inject_hyperparams(optax.adam)(1e-3), "
    "hyperparameters={'learning_rate': learning_rate})`."
)


def _needs_value(name: str, takes: str) -> ValueError:
    return ValueError(
        f"the strategy {name!r} needs the value of a hyper-parameter itself ({takes}), "
        f"{_WAY_OUT}"
    )


@dataclasses.dataclass(frozen=True)
class Study:
    """What is asked of a problem: strategies, each with a grid of its own, from seeds, for
    so many steps. A value: it is checked when it is made, and only read afterwards.

    ```python
    study = curvopt.Study(problem, {"SGD": sgd, "Adam": adam}, seeds=8, steps=1000)
    data = study.run("results/first")
    ```

    **Arguments:**

    - `problem`: what to train.
    - `strategies`: by name, solvers and [`curvopt.Family`][]s of them.
    - `seeds`: how many (`0 .. seeds - 1`), or which, as integers.
    - `steps`: how many steps each run makes.
    - `evaluations`: how many times the problem's metrics are evaluated, after the start.

    **Raises:**

    `ValueError` if there is no strategy, seeds repeat, a count is below 1, a value is out
    of its range, or the problem does not hold to its contract.
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
        """The strategies, ready to be run."""
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
    ) -> xr.Dataset:
        """Run what of it is not in the folder yet: see [`curvopt.run_study`][]."""
        check_instance("execution", execution, Execution)
        number = isinstance(save_every, (int, float, np.number))
        if not number or not save_every >= 0:
            raise ValueError(
                f"save_every must be seconds, at least 0, but it is {save_every!r}."
            )
        return run_session(
            self,
            folder,
            execution=execution,
            save_every=float(save_every),
            progress=progress,
            accept_versions=accept_versions,
            rerun_damaged=rerun_damaged,
        )


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
) -> xr.Dataset:
    """Run every strategy from every seed, and with every combination of its
    hyper-parameters: thousands of runs, each strategy one compiled program.

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

    A seed gives the same initial parameters and the same batches to every strategy, so
    that they can be compared in pairs. A run whose loss turns non-finite is recorded as it
    is, and touches no other.

    Runs are vmapped or made one after another, steps in a compiled loop or one by one, as
    many at once as memory holds: see [`curvopt.Execution`][]. They are shared out over all
    devices, and over all processes of `jax.distributed`, each of which gets the whole
    dataset.

    With a `folder`, records and states are saved as it goes. **The same study in the same
    folder resumes**, killed at whatever moment, and ends with the same numbers, bit for bit
    on the same machine. **A larger one extends it**: more seeds, more values, more
    strategies, more steps (where the strategies do not depend on how many there are); only
    what is missing is run. A seed that is added equals the same seed of one larger study,
    to rounding; to the bit where it runs at the same width. Of more `evaluations`, runs
    have those that they had not passed, and nan at the others. Ctrl-C, SIGTERM and SIGHUP
    end it with everything saved. [`curvopt.load_study`][] and [`curvopt.load_run`][] read
    it back.

    **Arguments:**

    - `problem`: what to train.
    - `strategies`: by name, solvers and [`curvopt.Family`][]s; with `hyperparameters` also
        functions of them that return a solver.
    - `seeds`: how many (`0 .. seeds - 1`), or which, as integers.
    - `steps`: how many steps each run makes.
    - `hyperparameters`: values by name, of all strategies that are functions. All
        combinations are run; they are data of one program.
    - `evaluations`: how many times the problem's metrics are evaluated, after the start.
    - `execution`: how, where that is not to be chosen; a [`curvopt.Execution`][].
    - `folder`: where to save.
    - `save_every`: after how many seconds to save; at the end it always is.
    - `progress`: whether to show a bar, and what was chosen; without a terminal, a line now
        and then.
    - `accept_versions`: make the steps that are missing under other versions of jax and the
        like than those before; the dataset says so in its attribute `versions_before`.
    - `rerun_damaged`: drop what was saved of damaged runs, and run these again.

    **Returns:**

    An `xarray.Dataset` with dimensions `(strategy, *hyperparameters, seed, step)`: `loss`,
    `step_size`, `gradient_norm`, `slope`, `curvature`, `gradient_equivalents`, what was
    evaluated and which guards acted; with `evaluation_step` for `step`: the problem's
    metrics; without either: `diverged_at` and `steps_made`; with `(strategy,)`: `seconds`,
    `compile_seconds` and `execution`. Where a strategy has no run, it is nan; a solver
    beside families is the same at all values of their hyper-parameters. Definitions,
    units, the problem, the strategies and versions are attributes.

    **Raises:**

    `ValueError` as [`curvopt.Study`][], or if not even one lane fits into memory.
    [`curvopt.StudyError`][] if the folder cannot be written to, is damaged, or holds
    another study; it lists what differs.
    """
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
    )
