import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray, PyTree, Scalar

from ._around import AbstractAround
from ._declared import count
from ._problem import AbstractProblem, Metrics
from ._tree import at_least_float32, tree_cast


class MicroBatched(AbstractAround):
    r"""A problem whose batches go through the model in parts, one after another: value,
    gradient and curvature of the large batch, at the memory of a micro-batch.

    The loss on a batch $B$ of micro-batches $B_1, ..., B_n$ is the mean of theirs,

    $$f_B(y) = \frac1n \sum_{i=1}^n f_{B_i}(y),$$

    in a loop that keeps nothing of an iteration: what the backward and the curvature sweep
    need is computed again. All that a solver asks for is then exact, with every curvature
    method, and so are the losses of trial steps. (Accumulating the gradients of several
    steps, as `optax.MultiSteps` does, gives no line search the loss that it steps on.)

    ```python
    problem = curvopt.MicroBatched(problem, 16)  # batches of 512: 16 times 32
    ```

    It is the loss of the large batch if that is a mean over examples with equal weights. A
    model whose examples see each other, as batch norm's do, sees those of a micro-batch.
    Its state goes through the micro-batches in order, and no derivative goes through the
    state. Each micro-batch has randomness of its own; metrics are averaged. Gradients of
    half-precision parameters are added up in float32.

    **Arguments:**

    - `problem`: any problem whose batches are arrays with the examples on the first axis.
    - `micro_batches`: $n$; the $i$-th has the examples $i, i + n, i + 2n, ...$ Static.

    **Raises:**

    `ValueError` when it is trained, if the arrays of a batch do not have the same number of
    examples, a multiple of $n$.
    """

    problem: AbstractProblem
    micro_batches: int = count()

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], PyTree]:
        return self.problem.init(key)

    def loss(
        self, params: PyTree[Array], args: tuple[PyTree, PyTree, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[PyTree, Metrics]]:
        data, model_state, key = args
        parts = self._split(data), jnp.arange(self.micro_batches)
        states, static = eqx.partition(model_state, eqx.is_array)
        states, structure = jtu.tree_flatten(states)
        # The adjoints of what all iterations share are added up in its dtype.
        wide = jtu.tree_map(at_least_float32, params)

        # No barrier: nothing outside the loop can be merged with what is inside.
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def part(wide: PyTree[Array], states: list[Array], x: PyTree[Array]) -> tuple:
            data, k = x
            state = eqx.combine(jtu.tree_unflatten(structure, states), static)
            args = data, state, jr.fold_in(key, k)
            loss, (state, metrics) = self.problem.loss(tree_cast(wide, params), args)
            states = jtu.tree_leaves(eqx.filter(state, eqx.is_array))
            return jax.lax.stop_gradient(states), (loss, metrics)

        states, means = jax.lax.scan(functools.partial(part, wide), states, parts)
        loss, metrics = jtu.tree_map(jnp.mean, means)
        model_state = eqx.combine(jtu.tree_unflatten(structure, states), static)
        return loss, (model_state, metrics)

    def evaluate(self, params: PyTree[Array], model_state: PyTree) -> Metrics:
        return self.problem.evaluate(params, model_state)

    def _split(self, data: PyTree[Array]) -> PyTree[Array]:
        """The batch, with a leading axis of micro-batches."""
        shapes = [jnp.shape(x) for x in jtu.tree_leaves(data)]
        sizes, n = {shape[:1] for shape in shapes}, self.micro_batches
        if len(sizes) != 1 or () in sizes or any(size % n for (size,) in sizes):
            raise ValueError(
                "micro_batches must divide the number of examples, which all arrays of a "
                f"batch have on their first axis, but it is {n} and the arrays have the "
                f"shapes {', '.join(map(str, shapes)) or 'of none'}."
            )

        # Strided: examples that are split over devices along this axis stay where they are.
        def split(x: Array) -> Array:
            return jnp.moveaxis(x.reshape(x.shape[0] // n, n, *x.shape[1:]), 1, 0)

        return jtu.tree_map(split, data)
