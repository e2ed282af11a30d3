"""What the user's function is told at each evaluation of a run, and what it answers."""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int, PyTree

from ._dataset import Outcome
from ._lane import Lane
from ._records import FINITE, Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of one run, as `on_evaluation` is told of it.

    ```python
    def on_evaluation(evaluation):
        print(evaluation.step, evaluation.metrics["train_loss"])
        return evaluation.metrics["train_loss"] < 0.1  # True stops this run
    ```

    **Attributes:**

    - `strategy`: the name of the strategy; `"train"` in [`curvopt.train`][].
    - `hyperparameters`: the values of its hyper-parameters, by name.
    - `seed`: the seed; 0 in `train`.
    - `step`: how many steps the run has made.
    - `metrics`: the problem's metrics, by name.
    """

    strategy: str
    hyperparameters: Mapping[str, float]
    seed: int
    step: int
    metrics: Mapping[str, float]
    _lanes: Lane = dataclasses.field(repr=False)
    _at: int = dataclasses.field(repr=False)

    def params(self) -> PyTree[Array]:
        """The parameters of the run that were evaluated. They are copied when they are
        asked for, which must be while `on_evaluation` is called."""
        return self._own(lambda lanes: lanes.answer)

    def model_state(self) -> PyTree:
        """The state of the model, likewise."""
        return self._own(lambda lanes: lanes.model_state)

    def _own(self, part: Callable[[Lane], PyTree]) -> PyTree:
        arrays = jtu.tree_leaves(eqx.filter(self._lanes, eqx.is_array))
        if any(x.is_deleted() for x in arrays):
            raise ValueError(
                f"the run has gone on from step {self.step}, and its parameters are no "
                "longer there. Ask for them while `on_evaluation` is called, and keep them."
            )
        dynamic, static = eqx.partition(part(self._lanes), eqx.is_array)
        return eqx.combine(jtu.tree_map(lambda x: x[self._at], dynamic), static)


OnEvaluation: TypeAlias = Callable[[Evaluation], Any]


def _is_true(answer: Any) -> bool:
    """Whether an answer is `True`. Others stop nothing: what a logger returns is no
    answer."""
    if not isinstance(answer, (bool, np.bool_, np.ndarray, jax.Array)):
        return False
    array = jnp.asarray(answer)
    return array.shape == () and array.dtype == jnp.bool_ and bool(array)


class Watch:
    """Calls the user's function once for each evaluation of each run of a strategy.

    **Arguments:**

    - `function`: the function.
    - `strategy`: the strategy's name.
    - `outcome`: its runs; their records note what was reported, and which were stopped.
    - `save`: saves these notes.
    """

    def __init__(
        self,
        function: OnEvaluation,
        strategy: str,
        outcome: Outcome,
        save: Callable[[], None],
    ):
        self._function, self._strategy, self._save = function, strategy, save
        self._outcome = outcome
        self._lock = threading.Lock()  # groups are evaluated by threads of their own

    def __call__(
        self,
        runs: Int[np.ndarray, " n"],
        at: Int[np.ndarray, " n"],
        step: int,
        metrics: Rows,
        lanes: Lane,
    ) -> None:
        """Report an evaluation of a group.

        **Arguments:**

        - `runs`, `at`: the runs, and the places of their lanes in the group.
        - `step`: how many steps they have made.
        - `metrics`: arrays of shape `(n,)`.
        - `lanes`: the lanes of the group.
        """
        outcome, records = self._outcome, self._outcome.records
        with self._lock:
            new = np.flatnonzero(records.reported[runs] < step)
            if not new.size:  # the steps since the last save are made again
                return
            # Saved first: a process that is killed meanwhile does not report it again.
            records.reported[runs[new]] = step
            self._save()
            before, errors = records.stopped_at[runs].copy(), list[Exception]()
            try:
                for k in new.tolist():
                    run = int(runs[k])
                    own = {name: float(x[k]) for name, x in metrics.items()}
                    del own[FINITE]
                    evaluation = Evaluation(
                        self._strategy,
                        outcome.points[run],
                        outcome.seeds[run],
                        step,
                        own,
                        lanes,
                        int(at[k]),
                    )
                    try:
                        answer = self._function(evaluation)
                    except Exception as error:  # the other runs are told now or never
                        errors.append(error)
                        continue
                    # A run that has not made a step cannot be stopped.
                    if step and _is_true(answer):
                        records.stopped_at[run] = step
            finally:
                if (records.stopped_at[runs] != before).any():
                    self._save()
            if errors:
                raise errors[0]
