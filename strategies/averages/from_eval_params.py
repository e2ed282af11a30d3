from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

import curvopt

from ..directions.from_optax import FromOptaxState


class FromEvalParams(curvopt.AbstractAverage):
    """The point that an optax optimiser is to be evaluated at, where that is another one
    than its gradients are taken at.

    ```python
    tx = optax.contrib.schedule_free_adamw()
    average = FromEvalParams(optax.contrib.schedule_free_eval_params)
    solver = LineSearchMinimiser(FromOptax(tx), LearningRate(1.0), average=average)
    ```

    **Arguments:**

    - `eval_params`: maps the optimiser's state and the parameters to that point. Static.

    **Raises:**

    `ValueError` in a step if the direction is not [`strategies.FromOptax`][].
    """

    eval_params: Callable[[Any, PyTree[Array]], PyTree[Array]] = eqx.field(static=True)

    def step(
        self, y: PyTree[Array], direction: Any, average: PyTree[Array], state: Any
    ) -> tuple[PyTree[Array], Any]:
        if not isinstance(direction, FromOptaxState):
            raise ValueError(
                "FromEvalParams reads the state of an optax optimiser: the direction must "
                f"be a FromOptax, but its state is a {type(direction).__name__}."
            )
        point = self.eval_params(direction.tx, y)
        return jax.tree.map(lambda x, a: x.astype(a.dtype), point, average), state
