"""The methods for the curvature that are compared, one entry each in `VARIANTS`."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.experimental import jet
from jaxtyping import Array, PyTree, Scalar

import curvopt

from ._instance import Loss


# Value, auxiliary output, gradient g, and the curvature along u = -g.
Expansion: TypeAlias = tuple[Scalar, PyTree, PyTree[Array], Scalar]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A method for the curvature.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `expand`: `expand(loss, y, args)`, which expands the loss to second order along its
        own negative gradient: `u` depends on the gradient, as in real use.
    """

    label: str
    expand: Callable[[Loss, PyTree, PyTree], Expansion]


def gradient(loss: Loss, y: PyTree, args: PyTree) -> tuple[Scalar, PyTree, PyTree[Array]]:
    """The unit of all costs: one value-and-gradient."""
    (value, aux), grad = jax.value_and_grad(loss, has_aux=True)(y, args)
    return value, aux, grad


def _method(
    method: curvopt.AbstractCurvatureMethod, loss: Loss, y: PyTree, args: PyTree
) -> Expansion:
    model = curvopt.quadratic_model(loss, y, args, method, has_aux=True)
    u = jtu.tree_map(jnp.negative, model.grad)
    return model.value, model.aux, model.grad, model.curvature(u)


def _linearize(loss: Loss, y: PyTree, args: PyTree) -> Expansion:
    def grad_first(y: PyTree) -> tuple[PyTree, tuple[Scalar, PyTree]]:
        value, aux, grad = gradient(loss, y, args)
        return grad, (value, aux)

    grad, product, (value, aux) = jax.linearize(grad_first, y, has_aux=True)
    u = jtu.tree_map(jnp.negative, grad)
    return value, aux, grad, curvopt.tree_dot(u, product(u))


def nested_jvp(loss: Loss, y: PyTree, args: PyTree, u: PyTree) -> Scalar:
    """The curvature along `u`, as the derivative of the slope."""

    def slope(y: PyTree) -> Scalar:
        return jax.jvp(lambda y: loss(y, args)[0], (y,), (u,))[1]

    return jax.jvp(slope, (y,), (u,))[1]


# The workloads tag their outputs with an identity primitive, for which jet has no rule.
jet.deflinear(jax.make_jaxpr(curvopt.tag_output)(0.0).eqns[0].primitive)


def _taylor(loss: Loss, y: PyTree, args: PyTree, u: PyTree) -> Scalar:
    leaves, treedef = jtu.tree_flatten(y)

    def flat(*leaves: Array) -> Scalar:
        return loss(jtu.tree_unflatten(treedef, leaves), args)[0]

    # Series in the leaves of y save the FLOPs of t -> y + t u.
    series = [(dy, jnp.zeros_like(dy)) for dy in jtu.tree_leaves(u)]
    _, (_, curvature) = jet.jet(flat, leaves, series)
    return curvature


def _after_gradient(
    curvature: Callable[[Loss, PyTree, PyTree, PyTree], Scalar],
    loss: Loss,
    y: PyTree,
    args: PyTree,
) -> Expansion:
    """A gradient, then a curvature that reuses only its direction, and whatever XLA finds
    in common."""
    value, aux, grad = gradient(loss, y, args)
    u = jtu.tree_map(jnp.negative, grad)
    return value, aux, grad, curvature(loss, y, args, u)


def _of(method: curvopt.AbstractCurvatureMethod) -> Callable[..., Expansion]:
    return eqx.Partial(_method, method)


GRADIENT = "gradient"

# Methods that by design do not compute the curvature of the whole batch.
OTHER_QUANTITIES = ("gauss-newton", "part")

# The last one is the method of Bu & Xu, arXiv 2407.02772.
VARIANTS = {
    "adjoint": Variant("adjoint", _of(curvopt.AdjointCurvature())),
    "adjoint-two": Variant(
        "adjoint, two products", _of(curvopt.AdjointCurvature(products="two"))
    ),
    "adjoint-three": Variant(
        "adjoint, three products", _of(curvopt.AdjointCurvature(products="three"))
    ),
    "adjoint-bfloat16": Variant(
        "adjoint, bfloat16", _of(curvopt.AdjointCurvature(product_dtype=jnp.bfloat16))
    ),
    "adjoint-two-bfloat16": Variant(
        "adjoint, two products in bfloat16",
        _of(curvopt.AdjointCurvature("two", product_dtype=jnp.bfloat16)),
    ),
    "forward": Variant("forward", _of(curvopt.ForwardCurvature())),
    "gauss-newton": Variant("Gauss-Newton", _of(curvopt.GaussNewtonCurvature())),
    "part": Variant("an eighth of the batch", _of(curvopt.SubsampledCurvature(1 / 8))),
    "jvp-grad": Variant("jvp(grad)", _of(curvopt.HvpCurvature())),
    "linearize-grad": Variant("linearize(grad)", _linearize),
    "nested-jvp": Variant("jvp(jvp)", partial(_after_gradient, nested_jvp)),
    "jet": Variant("jet", partial(_after_gradient, _taylor)),
    "two-losses": Variant("two more losses", _of(curvopt.FiniteDifferenceCurvature())),
}
