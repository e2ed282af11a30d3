"""What the two rules that measure in hindsight share."""

import jax.numpy as jnp
from jaxtyping import Array, PyTree, Scalar, ScalarLike

import curvopt


def learning_rate(
    given: Scalar | None, schedule: curvopt.Schedule | None, memory: bool
) -> ScalarLike:
    r"""$\ell$, or its default for directions with and without a memory."""
    if given is not None:
        return given
    if schedule is None:
        return 0.65 if memory else 1.5
    return 0.8 if memory else 2.0


def first_step_size(y: PyTree[Array], u: PyTree[Array], fraction: ScalarLike) -> Scalar:
    """The step size that moves the parameters by a fraction of their norm (of 1, where they
    are zero)."""
    size, length = curvopt.tree_norm(y), curvopt.tree_norm(u)
    size = jnp.asarray(fraction) * jnp.where(size > 0, size, 1)
    return size / jnp.where(length > 0, length, 1)
