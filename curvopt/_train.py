import dataclasses
import json
import math

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray, PyTree

from ._checks import check_count, check_instance, check_key
from ._contract import check_problem, Checked
from ._describe import readable
from ._environment import versions
from ._problem import AbstractProblem
from ._solver import LineSearchMinimiser
from ._study import Execution
from ._study._dataset import dataset, Outcome
from ._study._engine import run, Saver, Work
from ._study._execution import choose
from ._study._host import own_errors, postponed_signals, Progress
from ._study._lane import Lane, Lanes, to_device
from ._study._program import Programs
from ._study._records import Records
from ._study._session import evaluation_schedule, LONGEST, prices


class TrainResult(eqx.Module):
    """What [`curvopt.train`][] returns.

    **Attributes:**

    - `params`: the parameters after the last step.
    - `model_state`: the model's state after the last step.
    - `history`: an `xarray.Dataset` with dimension `step`, and `evaluation_step` for
        the problem's metrics.
    """

    params: PyTree[Array]
    model_state: PyTree
    history: xr.Dataset = eqx.field(static=True)


def train(
    problem: AbstractProblem,
    solver: LineSearchMinimiser,
    key: PRNGKeyArray,
    *,
    steps: int,
    evaluations: int = 10,
    execution: Execution = Execution(),
    progress: bool = True,
) -> TrainResult:
    """Train one model on mini-batches.

    The gradient, direction and line search of a step use the same batch and the same
    randomness. The model's state comes from the evaluation at the start of the step, never
    from a trial. The solver's tolerances are ignored. A loss that becomes non-finite is
    recorded as it is; once no step can make it finite again, training stops.

    **Arguments:**

    - `problem`: the problem to train on.
    - `solver`: a [`curvopt.LineSearchMinimiser`][].
    - `key`: the random key for initialisation, batches, dropout and direction.
    - `steps`: how many steps to make.
    - `evaluations`: how many times to evaluate the problem's metrics, not counting the
        start.
    - `execution`: how to run the steps, a [`curvopt.Execution`][]; on a single device.
    - `progress`: whether to show a progress bar, if there is a terminal.

    **Returns:**

    A [`curvopt.TrainResult`][].

    **Raises:**

    `ValueError` if a count is below 1, if `key` is not a random key, or for parameters,
    losses and directions that [`curvopt.quadratic_model`][] refuses.
    """
    check_instance(
        "solver",
        solver,
        LineSearchMinimiser,
        "Compose one: `curvopt.LineSearchMinimiser(direction, line_search)`.",
    )
    check_key("key", key)
    check_instance("execution", execution, Execution)
    steps = check_count("steps", steps)
    evaluations = check_count("evaluations", evaluations)
    checked = check_problem(problem)
    lane, history = _run(checked, solver, key, steps, evaluations, execution, progress)
    return TrainResult(lane.params, lane.model_state, history)


def _run(
    checked: Checked,
    solver: LineSearchMinimiser,
    key: PRNGKeyArray,
    steps: int,
    evaluations: int,
    execution: Execution,
    progress: bool,
) -> tuple[Lane, xr.Dataset]:
    """Make one run from a key; return its lane after the last step, and its history."""
    # A single lane has no use for several workers or devices.
    here = dataclasses.replace(
        execution, lanes_at_once=None, workers=1, devices=execution.on()[:1]
    )
    zero, last = np.zeros(1, int), []
    records = Records(1, steps, np.array(evaluation_schedule(steps, evaluations)))
    with (
        own_errors(),
        postponed_signals() as interrupt,
        Progress(steps, progress) as bar,
    ):
        lanes = Lanes(checked.problem, solver, False, [key], zero, zero)
        programs = Programs(lanes, here.on(), min(here.chunk or LONGEST, steps))
        bar.strategy("train")
        choice = choose(
            here, programs, lanes=1, steps=steps, convolutions=checked.convolutions
        )
        bar.say(str(choice))
        program = programs(choice.loop, choice.lanes_at_once, choice.longest)
        # An infinite interval saves once, at the end: this is how the last lane comes out.
        saver = Saver(
            lambda pieces, seconds: last.append(pieces[0][-1]), last.pop, math.inf
        )
        # Not shared: every process of `jax.distributed` makes the whole run.
        work = Work(program, choice, records, zero, saver, share=(0, 1))
        seconds = run(work, 0.0, bar, interrupt)
    outcome = Outcome(
        text=readable(solver),
        points=[{}],
        seeds=[0],
        records=records,
        costs=prices(checked.problem, solver, records, {}),
        seconds=seconds,
        compile_seconds=programs.compile_seconds,
        execution=dataclasses.asdict(choice),
    )
    attributes = {
        "problem": readable(checked.problem),
        "steps": steps,
        "versions": json.dumps(versions()),
    }
    data = dataset({"train": outcome}, [0], attributes)
    return to_device(last[-1], lanes.first), data.isel(strategy=0, seed=0, drop=True)
