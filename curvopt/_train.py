import itertools
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import xarray as xr
from jaxtyping import Array, PRNGKeyArray, PyTree

from ._checks import check_count, check_instance, check_key
from ._problem import AbstractProblem
from ._solver import LineSearchMinimiser, StrategyState
from ._study import Execution, Study
from ._study._evaluation import OnEvaluation
from ._study._lane import Origin
from ._study._options import Options
from ._study._session import finished_session


class TrainResult(eqx.Module):
    """What [`curvopt.train`][] returns.

    A loop of one's own goes on where `train` ended, with the batches and the randomness
    that `train` would have used:

    ```python
    _, batch_key, loss_key, _ = jax.random.split(key, 4)
    data = problem.batch(batch_key, count)
    args = data, result.model_state, jax.random.fold_in(loss_key, count)
    iterate, solver_state, record, (model_state, metrics) = solver.update(
        problem.loss, result.iterate, args, count, result.solver_state
    )
    ```

    where `count` is the number of steps so far, as an array. (If the line search makes two
    steps on a batch, `batch` and `fold_in` take half of it.) Data on the host come from
    `data = next(problem.host_data.batches(seed, count))`, for the key of that seed.

    **Attributes:**

    - `params`: the parameters after the last step or, if the solver has an average, the
        average of them.
    - `iterate`: the parameters after the last step, in any case.
    - `model_state`: the model's state after the last step.
    - `solver_state`: the states of the direction, the line search and the average after
        the last step, as `solver.init_strategy` makes them and `solver.update` takes them.
    - `history`: an `xarray.Dataset` with dimension `step`, and `evaluation_step` for
        the problem's metrics. Values after the run ended are nan: see `steps_made`.
    """

    params: PyTree[Array]
    iterate: PyTree[Array]
    model_state: PyTree
    solver_state: StrategyState
    history: xr.Dataset = eqx.field(static=True)


def train(
    problem: AbstractProblem,
    solver: LineSearchMinimiser,
    key: PRNGKeyArray,
    *,
    steps: int,
    params: PyTree[Array] | None = None,
    model_state: PyTree = None,
    evaluations: int = 10,
    execution: Execution = Execution(),
    folder: str | os.PathLike | None = None,
    save_every: float = 30.0,
    progress: bool = True,
    accept_versions: bool = False,
    rerun_damaged: bool = False,
    on_evaluation: OnEvaluation | None = None,
) -> TrainResult:
    """Train one model on mini-batches.

    The gradient, direction and line search of a step use the same batch and the same
    randomness. The model's state comes from the evaluation at the start of the step, never
    from a trial. The solver's tolerances are ignored. A loss that becomes non-finite is
    recorded as it is; once no step can make it finite again, training stops.

    With a `folder` the run is saved as it goes, like a study of one run. **The same call
    resumes it**, whenever it was killed. **More `steps` extend it**, if the solver does not
    depend on their number. Either way it ends with the numbers of a run without a break,
    bit for bit on the same devices. Ctrl-C, SIGTERM and SIGHUP stop it with everything
    saved; in an interactive session, such as a notebook, Ctrl-C returns what there is.
    [`curvopt.load_study`][] and [`curvopt.load_run`][] read the folder. Of several
    processes of `jax.distributed` the first makes the run, and all return its result.

    **Arguments:**

    - `problem`: the problem to train on.
    - `solver`: a [`curvopt.LineSearchMinimiser`][].
    - `key`: the random key for initialisation, batches, dropout and direction.
    - `steps`: how many steps the run makes in all.
    - `params`, `model_state`: where to start, like those that the problem's `init` returns;
        what is left out is drawn by it.
    - `evaluations`: how many times to evaluate the problem's metrics, not counting the
        start.
    - `execution`: how to run the steps, a [`curvopt.Execution`][]; on a single device, if
        it has no `sharding`.
    - `folder`: the folder to save to.
    - `save_every`: seconds between two saves; the end is always saved.
    - `progress`: whether to show a progress bar; without a terminal, an occasional line.
    - `accept_versions`, `rerun_damaged`: as in [`curvopt.run_study`][].
    - `on_evaluation`: a function of a [`curvopt.Evaluation`][], called at each evaluation;
        if it returns `True`, the run stops. See [`curvopt.run_study`][].

    **Returns:**

    A [`curvopt.TrainResult`][].

    **Raises:**

    `ValueError` if a count is below 1, if `key` is not a random key, if `params` or
    `model_state` are not like those of `init`, or for parameters, losses and directions
    that [`curvopt.quadratic_model`][] refuses. [`curvopt.StudyError`][] if the folder is
    not writable, is damaged, or holds anything else; the error lists the differences.
    """
    check_instance(
        "solver",
        solver,
        LineSearchMinimiser,
        "Compose one: `curvopt.LineSearchMinimiser(direction, line_search)`.",
    )
    check_key("key", key)
    options = Options(
        execution, save_every, progress, accept_versions, rerun_damaged, on_evaluation
    )
    steps = check_count("steps", steps)
    study = Study(problem, {"train": solver}, seeds=1, steps=steps, evaluations=evaluations)
    origin = Origin(key, *_like_init(study.problem, params, model_state))
    with finished_session(study, folder, options.of_one_lane(), origin) as session:
        lane, data = session.lane(), session.dataset()
    history = data.isel(strategy=0, seed=0, drop=True)
    return TrainResult(lane.answer, lane.params, lane.model_state, lane.strategy, history)


def _like_init(
    problem: AbstractProblem, params: PyTree[Array] | None, model_state: PyTree
) -> tuple[PyTree[Array] | None, PyTree]:
    """Given parameters and model state as arrays of jax; raise unless they are like those
    that `init` returns."""
    drawn = eqx.filter_eval_shape(problem.init, jax.random.key(0))
    return _like("params", params, drawn[0]), _like("model_state", model_state, drawn[1])


def _like(name: str, given: PyTree, drawn: PyTree) -> PyTree:
    if given is None:
        return None
    made = jtu.tree_map(lambda x: jnp.asarray(x) if eqx.is_array_like(x) else x, given)
    found, expected = _kinds(made), _kinds(drawn)
    for own, like in itertools.zip_longest(found, expected, fillvalue="nothing"):
        if own != like:
            raise ValueError(
                f"{name} must be like those that the problem's `init` returns, with "
                f"`{like}` where there is `{own}`. `curvopt.load_run(folder, "
                "problem=problem)` restores saved ones in this form."
            )
    return made


def _kinds(tree: PyTree) -> list[str]:
    leaves = jtu.tree_leaves_with_path(eqx.filter(tree, lambda x: hasattr(x, "dtype")))
    return [f"{jtu.keystr(path)} {x.dtype}{list(x.shape)}" for path, x in leaves]
