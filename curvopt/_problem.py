import abc
from typing import TypeAlias

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

from ._declared import Declared
from ._host_data import HostData


Metrics: TypeAlias = dict[str, Scalar]


class AbstractProblem(Declared):
    """Data, a model and a loss: what is minimised, over mini-batches.

    Its arrays (the data set) live on the device once and are shared by all seeds.
    Everything else is static. It defines either `batch`, for data on the device, or
    `host_data`, for data that stay on the host.
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

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> PyTree[Array]:
        """The data of one step: the same for every strategy of a seed. Not called where
        there are `host_data`.

        **Arguments:**

        - `key`: this seed's key for the data, the same at every step.
        - `count`: the step count, from 0.
        """
        del key, count
        raise no_batch(self)

    @property
    def host_data(self) -> HostData | None:
        """The data that stay on the host, a [`curvopt.HostData`][]; `None` by default."""
        return None

    @abc.abstractmethod
    def loss(
        self, params: PyTree[Array], args: tuple[PyTree, PyTree, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[PyTree, Metrics]]:
        """The loss on one batch.

        **Arguments:**

        - `params`: the parameters.
        - `args`: `(data, model_state, key)`: the data of the step, the model's state,
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

    def example_batch(
        self, key: PRNGKeyArray, count: Int[Array, ""] | int = 0
    ) -> PyTree[Array]:
        """A batch from which shapes and costs are known: that of a step or, of data on the
        host, always the first one."""
        if self.host_data is None:
            return self.batch(key, jnp.asarray(count))
        return jtu.tree_map(jnp.asarray, self.host_data.first)


def no_batch(problem: AbstractProblem) -> ValueError:
    """The error where a problem without data on the device is asked for a batch."""
    name = type(problem).__name__
    if problem.host_data is None:
        return ValueError(f"{name} must define `batch`, or `host_data`.")
    return ValueError(
        f"{name} has no `batch`: its data stay on the host, and come by seed and step. A "
        "problem that wraps it must have its `host_data` too."
    )
