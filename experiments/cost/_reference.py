"""The reference curvature in float64, with which every variant is compared."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ._instance import Instance
from ._variants import nested_jvp


def _widened(tree: PyTree) -> PyTree:
    def widen(x: Any) -> Any:
        return jnp.asarray(np.asarray(x, np.float64)) if eqx.is_inexact_array(x) else x

    return jtu.tree_map(widen, tree)


def reference_curvature(instance: Instance) -> Callable[[PyTree], float]:
    """The map `u -> <u, Hu>` by nested `jvp` in float64, at the same parameters and data;
    it compiles once."""
    with jax.enable_x64(True):
        y, args = _widened(instance.y), _widened(instance.args)
    compiled = jax.jit(partial(nested_jvp, instance.loss))

    def curvature(u: PyTree) -> float:
        # Here as well: it is traced at the first call, not by `jax.jit`.
        with jax.enable_x64(True):
            return float(compiled(y, args, _widened(u)))

    return curvature
