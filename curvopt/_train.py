import equinox as eqx
import xarray as xr
from jaxtyping import Array, PRNGKeyArray, PyTree

from ._checks import check_count, check_instance
from ._cost import EvaluationCosts
from ._dataset import dataset
from ._problem import AbstractProblem
from ._run import progress_bar, run
from ._solver import LineSearchMinimiser


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
    progress: bool = True,
    chunk: int = 50,
) -> TrainResult:
    """Train one model on mini-batches.

    Gradient, direction and line search of a step see the same batch and the same
    randomness; the model's state is kept from the evaluation where the step began,
    never from a trial. The tolerances of the solver are ignored. A loss that turns
    non-finite is recorded as it is.

    **Arguments:**

    - `problem`: what to train.
    - `solver`: how, a [`curvopt.LineSearchMinimiser`][].
    - `key`: the randomness of initialisation, batches, dropout and direction.
    - `steps`: how many steps.
    - `evaluations`: how many times the problem's metrics are evaluated, after the
        start.
    - `progress`: whether to show a bar, where there is a terminal.
    - `chunk`: the largest number of steps in one call of the compiled loop.

    **Returns:**

    A [`curvopt.TrainResult`][].

    **Raises:**

    `ValueError` if a count is below 1, or for parameters, losses and directions as
    [`curvopt.quadratic_model`][] does.
    """
    check_instance(
        "solver",
        solver,
        LineSearchMinimiser,
        "Compose one: `curvopt.LineSearchMinimiser(direction, line_search)`.",
    )
    check_count("steps", steps)
    check_count("evaluations", evaluations)
    check_count("chunk", chunk)
    with progress_bar(steps, "train", progress) as bar:
        out = run(
            problem,
            solver,
            key,
            (),
            steps=steps,
            evaluations=evaluations,
            chunk=chunk,
            bar=bar,
        )
    costs = EvaluationCosts(problem, solver.curvature)
    data = dataset(out, (), solver.direction, costs)
    return TrainResult(out.lanes.params, out.lanes.model_state, data)
