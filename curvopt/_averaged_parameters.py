import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray, PyTree, Scalar

from ._around import AbstractAround
from ._declared import hyperparameter, Number
from ._problem import AbstractProblem, Metrics
from ._tree import scalar_dtype, tree_cast, tree_zeros


class AveragedState(eqx.Module):
    """The state of the model, and the average of the points where steps began, with the
    sum of their weights."""

    model_state: PyTree
    average: PyTree[Array]
    weight: Scalar


class AveragedParameters(AbstractAround):
    r"""A problem whose parameters are averaged over the steps, and evaluated beside their
    average.

    $$\bar y_k = \frac{\sum_{i \leq k} \beta^{k-i} y_i}{\sum_{i \leq k} \beta^{k-i}}$$

    over all points $y_0, ..., y_k$: an exponential moving average, corrected for its start,
    and at $\beta = 1$ the uniform average of Polyak and Ruppert. The steps do not see it.

    ```python
    averaged = curvopt.AveragedParameters(problem, decay=0.99)
    result = curvopt.train(averaged, solver, key, steps=1000)
    result.history.train_loss, result.history.averaged_train_loss
    average = averaged.average(result.params, result.model_state)
    ```

    Each metric of an evaluation is recorded for both: `train_loss` for the parameters, and
    `averaged_train_loss` for their average. The average is a part of the model's state, in
    float32 or wider: it works with every strategy and in studies, and it is saved and
    resumed. It is evaluated with the model state of the parameters; averages of batch norm,
    for example, are of these.

    **Arguments:**

    - `problem`: any problem.
    - `decay`: $\beta$ in $[0, 1]$.

    Source: Polyak & Juditsky 1992; Ruppert 1988.
    """

    problem: AbstractProblem
    decay: Number = hyperparameter(0.999, at_least=0, at_most=1)

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], AveragedState]:
        params, model_state = self.problem.init(key)
        zero = jnp.zeros((), scalar_dtype(params))
        return params, AveragedState(model_state, tree_zeros(params), zero)

    def loss(
        self, params: PyTree[Array], args: tuple[PyTree, AveragedState, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[AveragedState, Metrics]]:
        data, state, key = args
        loss, aux = self.problem.loss(params, (data, state.model_state, key))
        model_state, metrics = aux
        average, weight = self._with(params, state)
        return loss, (AveragedState(model_state, average, weight), metrics)

    def evaluate(self, params: PyTree[Array], model_state: AveragedState) -> Metrics:
        average = self.average(params, model_state)
        own = self.problem.evaluate(params, model_state.model_state)
        # Rebuilt: an `equinox.nn.State` may be used only once.
        again = jtu.tree_map(lambda x: x, model_state.model_state)
        averaged = self.problem.evaluate(average, again)
        return own | {f"averaged_{name}": x for name, x in averaged.items()}

    def average(self, params: PyTree[Array], model_state: AveragedState) -> PyTree[Array]:
        """The average of all points up to the present one.

        **Arguments:**

        - `params`: the present parameters.
        - `model_state`: the model state, as `train` returns it beside them.

        **Returns:**

        A pytree like the parameters, in their dtypes.
        """
        return tree_cast(self._with(params, model_state)[0], params)

    def _with(
        self, params: PyTree[Array], state: AveragedState
    ) -> tuple[PyTree[Array], Scalar]:
        """The average with one more point, and its weight."""
        params = jax.lax.stop_gradient(params)
        weight = self.decay.astype(state.weight.dtype) * state.weight + 1

        # At the first point the weight is 1: the zeros of the start count for nothing.
        def moved(a: Array, y: Array) -> Array:
            return a + (y.astype(a.dtype) - a) / weight.astype(a.dtype)

        return jtu.tree_map(moved, state.average, params), weight
