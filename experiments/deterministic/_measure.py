import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Float, Int

import curvopt

from .._formatting import first_line
from ._drive import drive
from ._prices import evaluate, Prices
from ._problem import Problem
from ._solvers import Solver


# What else runs on the machine can only add to a time.
_REPETITIONS = 5


class Run(NamedTuple):
    """A solver on a problem.

    **Attributes:**

    - `values`, `counts`, `total`: as in [`History`][], without unused entries.
    - `seconds`: the processor time of one run, without compilation: the least of several.
    - `compile_seconds`: the time to trace and compile.
    - `failure`: why it could not be run, else empty.
    """

    values: Float[np.ndarray, " point"]
    counts: Int[np.ndarray, "point kind"]
    total: Int[np.ndarray, " kind"]
    seconds: float = float("nan")
    compile_seconds: float = float("nan")
    failure: str = ""


class Measured(NamedTuple):
    """All solvers on one problem.

    **Attributes:**

    - `problem`: the problem.
    - `unknowns`: the number of unknowns.
    - `value`: the value at the start.
    - `prices`: the costs of its evaluations.
    - `runs`: the runs by solver.
    """

    problem: Problem
    unknowns: int
    value: float
    prices: Prices
    runs: dict[str, Run]


class UnusableProblem(Exception):
    """A problem on which no solver can start; the message says why."""


def _failed(failure: str) -> Run:
    kinds = len(Prices._fields)
    nothing = np.zeros((0, kinds), int)
    return Run(np.zeros(0), nothing, np.zeros(kinds, int), failure=failure)


def _run(
    problem: Problem,
    minimiser: optx.AbstractMinimiser,
    y0: Any,
    args: Any,
    prices: Prices,
    budget: int,
) -> Run:
    program = curvopt.cost.compile_and_analyse(
        partial(drive, problem.fn, minimiser, budget=budget), y0, args, jnp.array(prices)
    )
    history, seconds = program.run(), []
    for _ in range(_REPETITIONS):
        began = time.process_time()
        program.run()
        seconds.append(time.process_time() - began)
    points = int(history.points)
    return Run(
        values=np.asarray(history.values)[:points],
        counts=np.asarray(history.counts)[:points],
        total=np.asarray(history.total),
        seconds=min(seconds),
        compile_seconds=program.compile_seconds,
    )


def measure(
    problem: Problem,
    solvers: Mapping[str, Solver],
    *,
    budget: int,
    progress: Callable[[str], Any] = lambda doing: None,
) -> Measured:
    """Run all solvers on one problem, in float64.

    If a solver fails its error is recorded, not raised.

    **Arguments:**

    - `problem`: the problem.
    - `solvers`: the solvers by name.
    - `budget`: the cost at which a run ends, in C.
    - `progress`: called with the name of each next part, `len(solvers) + 1` times.

    **Raises:**

    `UnusableProblem` if the problem cannot be evaluated at its start, or its value or
    gradient is not finite there.
    """
    progress("start")
    with jax.enable_x64(True):
        try:
            y0, args = problem.start()
            # As in `optimistix.minimise`: no leaf may be weakly typed.
            y0 = jtu.tree_map(lambda y: jnp.asarray(y, jnp.float64), y0)
            start = evaluate(problem.fn, y0, args)
        except Exception as error:
            raise UnusableProblem(first_line(error)) from error
        for name, x in (("value", start.value), ("gradient", start.gradient_norm)):
            if not np.isfinite(x):
                raise UnusableProblem(f"the {name} at the start is not finite ({x})")
        runs = {}
        for name, solver in solvers.items():
            progress(solver.label)
            try:
                runs[name] = _run(problem, solver.minimiser, y0, args, start.prices, budget)
            except Exception as error:
                runs[name] = _failed(first_line(error))
    # The programs of this problem are not run again, but jax would keep them in memory.
    jax.clear_caches()
    unknowns = sum(y.size for y in jtu.tree_leaves(y0))
    return Measured(problem, unknowns, start.value, start.prices, runs)
