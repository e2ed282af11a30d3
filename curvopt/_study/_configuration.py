"""What a study is, as text: what must not change when it is resumed."""

import hashlib
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from .._problem import AbstractProblem
from .._solver import LineSearchMinimiser
from .._tree import join_static, pack_keys, split_static
from . import _lane
from ._program import fingerprint
from ._versions import versions


def description(tree: PyTree) -> str:
    """A pytree in words: its structure, the shapes of its arrays, and all else by value."""
    text = eqx.tree_pformat(tree)
    # A function that checks its types, or is compiled, is still the same function; where
    # something lies in memory is not part of it.
    return re.sub(r" at 0x[0-9a-f]+", "", text.replace("<wrapped function", "<function"))


def _digest(tree: PyTree) -> str:
    """A digest of the values of a pytree's arrays."""
    found = hashlib.sha256()
    for x in jtu.tree_leaves(eqx.filter(pack_keys(tree), eqx.is_array)):
        array = np.ascontiguousarray(jax.device_get(x))
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _lowered_start(problem: AbstractProblem) -> Any:
    dynamic, static = split_static(problem)

    def start(dynamic: Any, key: PRNGKeyArray) -> Any:
        lane = _lane.start(join_static(dynamic, static), key)
        return eqx.filter(lane, eqx.is_array)

    return jax.jit(start).lower(dynamic, jr.key(0))


def _random_numbers() -> str:
    """How keys become numbers, by jax's settings."""
    names = ("jax_default_prng_impl", "jax_threefry_partitionable")
    return ", ".join(f"{name} = {getattr(jax.config, name)}" for name in names)


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
        "initialisation of the problem": fingerprint(_lowered_start(problem)),
        "precision": str(jnp.result_type(float)),
        "random numbers": _random_numbers(),
        "versions": versions(),
        "processes": jax.process_count(),
    }


def strategy_configuration(solver: LineSearchMinimiser) -> dict[str, Any]:
    """What a strategy is; the code of its functions is not in here."""
    return {"strategy": description(solver), "hyper-parameters of it": _digest(solver)}
