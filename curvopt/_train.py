import equinox as eqx
import xarray as xr
from jaxtyping import Array, PRNGKeyArray, PyTree

from ._checks import check_count, check_instance, check_key
from ._contract import check_problem
from ._problem import AbstractProblem
from ._solver import LineSearchMinimiser
from ._study import Execution, run_alone


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

    Gradient, direction and line search of a step see the same batch and the same
    randomness; the model's state is kept from the evaluation where the step began,
    never from a trial. The tolerances of the solver are ignored. A loss that turns
    non-finite is recorded as it is; when no step can make it finite again, none is made.

    **Arguments:**

    - `problem`: what to train.
    - `solver`: how, a [`curvopt.LineSearchMinimiser`][].
    - `key`: the randomness of initialisation, batches, dropout and direction.
    - `steps`: how many steps.
    - `evaluations`: how many times the problem's metrics are evaluated, after the
        start.
    - `execution`: how the steps are run, a [`curvopt.Execution`][]; on a single device.
    - `progress`: whether to show a bar, where there is a terminal.

    **Returns:**

    A [`curvopt.TrainResult`][].

    **Raises:**

    `ValueError` if a count is below 1 or `key` is no random key, or for parameters, losses
    and directions as [`curvopt.quadratic_model`][] does.
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
    lane, history = run_alone(checked, solver, key, steps, evaluations, execution, progress)
    return TrainResult(lane.params, lane.model_state, history)
