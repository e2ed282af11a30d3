"""The quadratic model of a loss, and what a method for its curvature provides."""

import abc
from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
from jaxtyping import Array, PyTree, Scalar

from .._checks import check_direction
from .._tree import tree_cast


# `fn(y) -> (loss, aux)`: the arguments are closed over.
ClosedLoss: TypeAlias = Callable[[PyTree], tuple[Scalar, PyTree]]


class QuadraticModel(eqx.Module):
    r"""The loss near `y` to second order,
    $f(y + t u) \approx f + t \langle g, u \rangle + \tfrac{t^2}{2} \langle u, H u \rangle$.

    Made by [`curvopt.quadratic_model`][]. It closes over what its sweeps kept, in the
    idiom of `jax.linearize`: ask it for as many directions as you like, inside the
    same trace. Under `jax.jit`, what is not asked for is not computed.

    **Attributes:**

    - `value`: the loss $f(y)$, a scalar.
    - `grad`: the gradient $g$, a pytree like `y`.
    - `aux`: the auxiliary output of the loss at `y` (`None` without `has_aux`).
    """

    value: Scalar
    grad: PyTree[Array]
    aux: PyTree
    _slope: Callable[[PyTree], Scalar]
    _curvature: Callable[[PyTree], Scalar]

    def slope(self, u: PyTree[Array]) -> Scalar:
        r"""The slope $\langle g, u \rangle$ along `u`.

        **Arguments:**

        - `u`: a direction: same structure and shapes as `y`, any floating dtypes.

        **Returns:**

        A scalar in float32 or wider; negative where `u` is a direction of descent.

        **Raises:**

        `ValueError` if `u` does not match `y`.
        """
        check_direction(u, self.grad)
        return self._slope(tree_cast(u, self.grad))

    def curvature(self, u: PyTree[Array]) -> Scalar:
        r"""The curvature $\langle u, H u \rangle$ along `u`.

        Arguments, dtype and errors as for `slope`.
        """
        check_direction(u, self.grad)
        return self._curvature(tree_cast(u, self.grad))


class AbstractCurvatureMethod(eqx.Module):
    """How the curvature along a direction is had."""

    @abc.abstractmethod
    def model(self, fn: ClosedLoss, y: PyTree[Array]) -> QuadraticModel:
        """Expand a loss at `y`.

        **Arguments:**

        - `fn`: the loss with its arguments closed over, `fn(y) -> (scalar, aux)`.
        - `y`: the parameters, a pytree of floating-point arrays; already checked.

        **Returns:**

        A [`curvopt.QuadraticModel`][].
        """
