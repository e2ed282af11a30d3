"""What a study is, as text: what must not change when it is resumed."""

import hashlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from .._problem import AbstractProblem
from .._solver import LineSearchMinimiser
from .._tree import pack_keys
from ._versions import versions


def description(tree: PyTree) -> str:
    """A pytree in words: its structure, the shapes of its arrays, and all else by value."""
    # A function that checks its types is still the same function.
    return eqx.tree_pformat(tree).replace("<wrapped function", "<function")


def _digest(tree: PyTree) -> str:
    """A digest of the values of a pytree's arrays."""
    found = hashlib.sha256()
    for x in jtu.tree_leaves(eqx.filter(pack_keys(tree), eqx.is_array)):
        array = np.ascontiguousarray(jax.device_get(x))
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def study_configuration(
    problem: AbstractProblem,
    *,
    seeds: list[int],
    grid: dict[str, list[float]],
    steps: int,
    evaluations: int,
) -> dict[str, Any]:
    """What all strategies of a study have in common."""
    return {
        "problem": description(problem),
        "data of the problem": _digest(problem),
        "seeds": seeds,
        "hyperparameters": grid,
        "steps": steps,
        "evaluations": evaluations,
        "precision": str(jnp.result_type(float)),
        "versions": versions(),
        "processes": jax.process_count(),
    }


def strategy_configuration(solver: LineSearchMinimiser) -> dict[str, Any]:
    """What a strategy is; the code of its functions is not in here."""
    return {"strategy": description(solver), "hyper-parameters of it": _digest(solver)}
