from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree, Scalar

from .._checks import check_choice, check_instance, check_parameters
from .._tree import promotion
from ._adjoint import AdjointCurvature
from ._model import AbstractCurvatureMethod, ClosedLoss, Loss, QuadraticModel


def _fresh_copy(args: PyTree) -> PyTree:
    """`args` rebuilt: an `equinox.nn.State` may be updated only once, so each evaluation of
    the loss gets its own."""
    return jtu.tree_map(lambda x: x, args)


def _unpack_aux(out: Any) -> tuple[Any, Any]:
    """The output of a loss with `has_aux=True`, as a pair."""
    if not (isinstance(out, (tuple, list)) and len(out) == 2):
        raise ValueError(
            "with `has_aux=True` the loss must return a pair (loss, aux), but it "
            f"returned {type(out).__name__}. Return a pair, or drop `has_aux`."
        )
    return out[0], out[1]


def check_loss(value: Any) -> Scalar:
    """The value of a loss as an array, checked to be a real scalar.

    **Raises:**

    `ValueError` naming the shape and dtype.
    """
    if isinstance(value, (tuple, list)):
        raise ValueError(
            f"the loss must be a scalar, but it returned a {type(value).__name__} of "
            f"length {len(value)}. Pass `has_aux=True` if it returns (loss, aux)."
        )
    try:
        value = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the loss must be a scalar, but it returned {value!r} of type "
            f"{type(value).__name__}."
        ) from error
    if value.shape != ():
        raise ValueError(
            f"the loss must be a scalar, but it has shape {value.shape}. Reduce it, "
            "for example with `jnp.mean`."
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            "the loss must be a real floating-point number, but its dtype is "
            f"{value.dtype}. Take its real part or convert it."
        )
    return value


def _with_aux(fn: Callable, has_aux: bool) -> Loss:
    """A user's loss as a function that checks its value and returns `(loss, aux)`."""

    def loss(y: PyTree[Array], args: PyTree) -> tuple[Scalar, PyTree]:
        out = fn(y, _fresh_copy(args))
        value, aux = _unpack_aux(out) if has_aux else (out, None)
        return check_loss(value), aux

    return loss


def close_loss(fn: Callable, args: PyTree, has_aux: bool) -> ClosedLoss:
    """`fn(y, args)` as a function of `y` alone that returns `(loss, aux)`."""
    return lambda y: _with_aux(fn, has_aux)(y, args)


def quadratic_model(
    fn: Callable[[PyTree, Any], Any],
    y: PyTree,
    args: PyTree = None,
    curvature: AbstractCurvatureMethod = AdjointCurvature(),
    has_aux: bool = False,
) -> QuadraticModel:
    r"""Expand a loss at `y` to second order.

    The model has the value and the gradient, and for any vector $u$ the slope
    $\langle g, u \rangle$ and the curvature $\langle u, H u \rangle$.

    ```python
    model = curvopt.quadratic_model(loss, params, batch)
    u = jax.tree.map(jnp.negative, model.grad)
    step_size = -model.slope(u) / model.curvature(u)
    ```

    **Arguments:**

    - `fn`: the loss, `fn(y, args) -> scalar`, or `(scalar, aux)` with `has_aux`. It is
        traced as `jax.jit` would trace it.
    - `y`: the parameters, a pytree of real floating-point arrays of any shapes.
    - `args`: the other arguments of the loss, passed on unchanged.
    - `curvature`: the curvature method:
      [`curvopt.AdjointCurvature`][] (the default), [`curvopt.ForwardCurvature`][],
      [`curvopt.HvpCurvature`][], [`curvopt.FiniteDifferenceCurvature`][],
      [`curvopt.GaussNewtonCurvature`][], or any of them on a part of the batch,
      [`curvopt.SubsampledCurvature`][].
    - `has_aux`: whether `fn` returns an auxiliary output besides the loss.

    **Returns:**

    A [`curvopt.QuadraticModel`][]. It works under `jit`, `vmap` and `scan`, but cannot be
    returned from them; return the numbers that it computes.

    **Raises:**

    `ValueError` if `y` is empty or contains anything but real floating-point arrays, or if
    the loss is not a real floating-point scalar.
    """
    if not callable(fn):
        raise ValueError(f"fn must be the loss, fn(y, args), but it is {fn!r}.")
    check_choice("has_aux", has_aux, (True, False))
    check_parameters(y)
    check_instance("curvature", curvature, AbstractCurvatureMethod)
    with promotion() as keeps_setting:
        return curvature.model(_with_aux(keeps_setting(fn), has_aux), y, args)
