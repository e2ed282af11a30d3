"""The host's side of a run: chunks of steps, evaluations, the progress bar, the clock."""

import dataclasses
import itertools
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import tqdm
from jaxtyping import Array, PyTree

from . import _lane
from ._checks import check_metrics
from ._problem import AbstractProblem
from ._solver import LineSearchMinimiser


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of a run of one strategy. Arrays are NumPy's, lane axes as given.

    **Attributes:**

    - `lanes`: the final state of every lane.
    - `history`: the record of each step, the step's axis last.
    - `evaluations`: the problem's metrics, the evaluation's axis last.
    - `evaluation_steps`: after how many steps each evaluation was made.
    - `seconds`, `compile_seconds`: wall time of the steps, and of compiling them.
    """

    lanes: _lane.Lane
    history: PyTree[np.ndarray]
    evaluations: dict[str, np.ndarray]
    evaluation_steps: np.ndarray
    seconds: float
    compile_seconds: float


def evaluation_schedule(steps: int, evaluations: int) -> np.ndarray:
    """Steps at which to evaluate: the start, the end, and evenly between."""
    return np.unique(np.linspace(0, steps, evaluations + 1).round().astype(int))


def _boundaries(evaluation_steps: np.ndarray, chunk: int) -> list[int]:
    """Where the compiled loop returns to the host: at every evaluation, and at least
    every `chunk` steps."""
    steps = int(evaluation_steps[-1])
    return sorted({*map(int, evaluation_steps), *range(0, steps, chunk)})


# Strategies differ, but what these two see of them does not: they compile once for all
# strategies of a study.
@eqx.filter_jit
def _evaluate(
    problem: AbstractProblem, params: PyTree[Array], model_state: PyTree, axes: int
) -> Any:
    fn = problem.evaluate
    for _ in range(axes):
        fn = eqx.filter_vmap(fn, in_axes=(eqx.if_array(0), eqx.if_array(0)))
    return fn(params, model_state)


@eqx.filter_jit
def _starts(problem: AbstractProblem, keys: Array, axes: int) -> _lane.Start:
    fn = eqx.filter_vmap(_lane.start, in_axes=(None, 0)) if axes else _lane.start
    return fn(problem, keys)


@eqx.filter_jit
def _lanes(
    solver: LineSearchMinimiser, starts: _lane.Start, axes: tuple[bool, ...]
) -> _lane.Lane:
    """The lanes of a strategy; the starts belong to the innermost axis."""
    fn = _lane.lane
    for k, solver_too in enumerate(reversed(axes)):
        fn = eqx.filter_vmap(
            fn,
            in_axes=(
                eqx.if_array(0) if solver_too else None,
                eqx.if_array(0) if k == 0 else None,
            ),
        )
    return fn(solver, starts)


def run(
    problem: AbstractProblem,
    solver: LineSearchMinimiser,
    keys: Array,
    axes: tuple[bool, ...],
    *,
    steps: int,
    evaluations: int,
    chunk: int,
    bar: tqdm.tqdm,
) -> Run:
    """Run one strategy over all its lanes, compiled once.

    **Arguments:**

    - `keys`: one key, or an array of them for the innermost of `axes`.
    - `axes`: the vmapped axes, outermost first; `True` where the solver has it too.
    - `steps`, `evaluations`, `chunk`: how many steps, how often to evaluate the
        problem's metrics, and the largest number of steps between two looks.
    - `bar`: advanced by one for each step.
    """
    lanes = _lanes(solver, _starts(problem, keys, len(axes)), axes)
    schedule = evaluation_schedule(steps, evaluations)
    bounds = _boundaries(schedule, chunk)
    length = max(np.diff(bounds))
    fixed = (problem, solver, axes, int(length))

    def advance(lanes: _lane.Lane, first: int, last: int) -> Any:
        bound = lambda n: jnp.array(n, jnp.int32)
        out = _lane.advance(fixed, lanes, bound(first), bound(last))
        return jax.block_until_ready(out)

    def evaluate(lanes: _lane.Lane) -> Any:
        out = _evaluate(problem, lanes.params, lanes.model_state, len(axes))
        return jax.device_get(out)

    began = time.perf_counter()
    lanes, _ = advance(lanes, 0, 0)  # compiles, makes no step
    compile_seconds = time.perf_counter() - began

    pieces, rows, seconds = [], [], 0.0
    rows.append(evaluate(lanes))
    check_metrics(rows[0], lanes.batch_key.shape)
    for first, last in itertools.pairwise(bounds):
        began = time.perf_counter()
        lanes, history = advance(lanes, first, last)
        seconds += time.perf_counter() - began
        pieces.append(jtu.tree_map(lambda h, n=last - first: np.asarray(h)[:n], history))
        if last in schedule:
            rows.append(evaluate(lanes))
        loss = pieces[-1][0].loss[-1]
        if np.isfinite(loss).any():
            bar.set_postfix_str(f"best loss {np.nanmin(loss):.4g}", refresh=False)
        bar.update(last - first)

    step_last = lambda *xs: np.moveaxis(np.concatenate(xs), 0, -1)
    evaluation_last = lambda *xs: np.stack(xs, axis=-1)
    return Run(
        lanes=lanes,
        history=jtu.tree_map(step_last, *pieces),
        evaluations=jtu.tree_map(evaluation_last, *rows),
        evaluation_steps=schedule,
        seconds=seconds,
        compile_seconds=compile_seconds,
    )


def progress_bar(total: int, description: str, progress: bool) -> tqdm.tqdm:
    """A bar over steps; none if it is not wanted or there is no terminal."""
    disable = None if progress else True
    return tqdm.tqdm(total=total, desc=description, unit="step", disable=disable)
