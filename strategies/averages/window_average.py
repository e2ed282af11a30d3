from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PyTree, Scalar

import curvopt

from ._weighted import moved


class WindowAverage(curvopt.AbstractAverage):
    r"""The average over about the last fraction $c$ of the run, whenever it ends:

    $$\bar y_k = \bar y_{k-1} + \frac{y_k - \bar y_{k-1}}{1 + c k}, \qquad \bar y_0 = y_0.$$

    At $c = 1$ it is the uniform average of Polyak and Ruppert. Where the step size does not
    decay, an average takes away the noise of the last steps.

    **Arguments:**

    - `window`: $c$ in $[0, 1]$.

    Source: Polyak & Juditsky 1992; Ruppert 1988. With a window: Shamir & Zhang 2013, whose
    $\eta$ is $1 / c - 1$; the default has the weights $9 / (k + 9)$ of DoG (Ivgi, Hinder &
    Carmon 2023, read in its code).
    """

    window: curvopt.Number = curvopt.hyperparameter(1 / 9, at_least=0, at_most=1)

    def init(self, y: PyTree[Array]) -> Scalar:
        return jnp.ones((), curvopt.scalar_dtype(y))

    def step(
        self, y: PyTree[Array], direction: Any, average: PyTree[Array], state: Scalar
    ) -> tuple[PyTree[Array], Scalar]:
        del direction
        inverse_weight = state + self.window
        return moved(average, y, 1 / inverse_weight), inverse_weight
