import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray, PyTree, Scalar

from ._around import AbstractAround
from ._declared import hyperparameter, OptionalNumber
from ._problem import AbstractProblem, Metrics
from ._tree import scalar_dtype, tree_cast, tree_zeros


class AveragedState(eqx.Module):
    """The state of the model, and the average of the points where steps began, with the
    number of points that it stands for, $1 / w_k$ (zero before the first)."""

    model_state: PyTree
    average: PyTree[Array]
    points: Scalar


class AveragedParameters(AbstractAround):
    r"""A problem whose parameters are averaged over the steps, and evaluated beside their
    average. The steps do not see it.

    $$\bar y_k = \bar y_{k-1} + w_k (y_k - \bar y_{k-1}), \qquad \bar y_0 = y_0$$

    over all points $y_0, ..., y_k$. With a window $c$, $w_k = 1 / (1 + c k)$: the average
    reaches back over about the last fraction $c$ of the run, whenever it ends. At $c = 1$
    it is the uniform average of Polyak and Ruppert. With a decay $\beta$,
    $w_k = 1 / (1 + \beta + ... + \beta^k)$: an exponential moving average, corrected for
    its start.

    Where the step size does not decay, an average takes away the noise of the last steps.

    ```python
    averaged = curvopt.AveragedParameters(problem, window=0.1)
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
    - `window`: $c$ in $[0, 1]$. The default is 0.1, unless there is a decay.
    - `decay`: $\beta$ in $[0, 1]$, in place of a window.

    **Raises:**

    `ValueError` if a number is out of its range, or both are given.

    Source: Polyak & Juditsky 1992; Ruppert 1988. With a window: Shamir & Zhang 2013, whose
    $\eta$ is $1 / c - 1$.
    """

    problem: AbstractProblem
    window: OptionalNumber = hyperparameter(None, at_least=0, at_most=1, kw_only=True)
    decay: OptionalNumber = hyperparameter(None, at_least=0, at_most=1, kw_only=True)

    def __check_init__(self) -> None:
        if self.window is not None and self.decay is not None:
            raise ValueError(
                "Give a window or a decay, but not both: they are "
                f"{self.window} and {self.decay}."
            )

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
        average, points = self._with(params, state)
        return loss, (AveragedState(model_state, average, points), metrics)

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
        """The average with one more point, and the number of points it stands for."""
        params = jax.lax.stop_gradient(params)
        points = self._points(state.points)

        # The first weight is 1: the zeros of the start count for nothing.
        def moved(a: Array, y: Array) -> Array:
            return a + (y.astype(a.dtype) - a) / points.astype(a.dtype)

        return jtu.tree_map(moved, state.average, params), points

    def _points(self, before: Scalar) -> Scalar:
        if self.decay is not None:
            return self.decay.astype(before.dtype) * before + 1
        window = 0.1 if self.window is None else self.window.astype(before.dtype)
        return jnp.where(before > 0, before + window, 1)
