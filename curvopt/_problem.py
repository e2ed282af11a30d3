import abc
from typing import TypeAlias

from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

from ._declared import Declared


Metrics: TypeAlias = dict[str, Scalar]


class AbstractProblem(Declared):
    """Data, a model and a loss: what is minimised, over mini-batches.

    Its arrays (the data set) live on the device once and are shared by all seeds.
    Everything else is static.
    """

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], PyTree]:
        """The parameters and the model's state before the first step.

        **Arguments:**

        - `key`: the randomness of the initialisation.

        **Returns:**

        The parameters, a pytree of floating-point arrays only; and the model state
        (batch norm's averages and the like), a pytree of arrays, or `None`.
        """

    @abc.abstractmethod
    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> PyTree[Array]:
        """The data of one step: the same for every strategy of a seed.

        **Arguments:**

        - `key`: this seed's key for the data, the same at every step.
        - `count`: the step count, from 0.
        """

    @abc.abstractmethod
    def loss(
        self, params: PyTree[Array], args: tuple[PyTree, PyTree, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[PyTree, Metrics]]:
        """The loss on one batch.

        **Arguments:**

        - `params`: the parameters.
        - `args`: `(data, model_state, key)`: what `batch` returned, the model's state,
            and the step's randomness (dropout), the same for all evaluations of a step.

        **Returns:**

        `(loss, (model_state, metrics))`: a real scalar, the model's next state, and
        scalars to record at every step, by name.
        """

    @abc.abstractmethod
    def evaluate(self, params: PyTree[Array], model_state: PyTree) -> Metrics:
        """What a run is judged by, by name: for example the loss on all training data
        and the accuracy on the test data. Scalars."""

    @property
    @abc.abstractmethod
    def steps_per_epoch(self) -> int:
        """How many batches go through the data once."""
