"""What problems on a data set have in common."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar, Shaped

import curvopt


class AbstractOnData(curvopt.AbstractProblem):
    """A problem with a few choices as arguments; the [`curvopt.SupervisedProblem`][] that
    it makes from them does all the work.

    **Attributes:**

    - `name`: of the data.
    - `problem`: the problem.
    """

    name: eqx.AbstractVar[str]
    problem: eqx.AbstractVar[curvopt.SupervisedProblem]

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], PyTree]:
        return self.problem.init(key)

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> PyTree[Array]:
        return self.problem.batch(key, count)

    def loss(
        self, params: PyTree[Array], args: tuple[PyTree, PyTree, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[PyTree, curvopt.Metrics]]:
        return self.problem.loss(params, args)

    def evaluate(self, params: PyTree[Array], model_state: PyTree) -> curvopt.Metrics:
        return self.problem.evaluate(params, model_state)

    @property
    def steps_per_epoch(self) -> int:
        return self.problem.steps_per_epoch


def evenly_spaced(
    name: str, x: Shaped[np.ndarray, "n ..."], count: int | None
) -> Shaped[np.ndarray, "m ..."]:
    """`count` of the examples, or all of them if there are fewer or it is `None`.

    **Arguments:**

    - `name`: of the count, for the error.
    """
    if count is None or curvopt.check_count(name, count) >= len(x):
        return x
    return x[np.arange(count, dtype=np.int64) * len(x) // count]


def accuracy(
    logits: Shaped[Array, "*n class"], labels: Int[Array, "*n"]
) -> Shaped[Array, "*n"]:
    """Whether each of the examples is classified correctly."""
    return logits.argmax(axis=-1) == labels
