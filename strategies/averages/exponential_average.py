from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PyTree, Scalar

import curvopt

from ._weighted import moved


class ExponentialAverage(curvopt.AbstractAverage):
    r"""An exponential moving average over the points, corrected for its start:

    $$\bar y_k = \bar y_{k-1} + w_k (y_k - \bar y_{k-1}), \qquad
    w_k = \frac{1}{1 + \beta + \dots + \beta^k}, \qquad \bar y_0 = y_0.$$

    Where the length of the run is not known, [`strategies.WindowAverage`][] grows with it.

    **Arguments:**

    - `decay`: $\beta$ in $[0, 1]$; at 1 it is the uniform average.

    Source: the standard average of Kingma & Ba 2015, of points in place of gradients.
    """

    decay: curvopt.Number = curvopt.hyperparameter(0.999, at_least=0, at_most=1)

    def init(self, y: PyTree[Array]) -> Scalar:
        return jnp.ones((), curvopt.scalar_dtype(y))

    def step(
        self, y: PyTree[Array], direction: Any, average: PyTree[Array], state: Scalar
    ) -> tuple[PyTree[Array], Scalar]:
        del direction
        inverse_weight = 1 + self.decay * state
        return moved(average, y, 1 / inverse_weight), inverse_weight
