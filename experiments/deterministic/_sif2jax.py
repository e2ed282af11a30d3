"""The unconstrained problems of CUTEst, as `sif2jax` has them."""

import importlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from .._names import choose, UsageError
from ._problem import Problem


def _imported() -> Any:
    """The package, with its arrays in float64."""
    # Importing it switches float64 on for the whole process.
    wide = jnp.result_type(float) == jnp.float64
    try:
        with jax.enable_x64(True):
            return importlib.import_module("sif2jax")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--problems sif2jax needs the package of that name ({error}): "
            "pip install sif2jax"
        ) from error
    finally:
        jax.config.update("jax_enable_x64", bool(wide))


def sif2jax_problems(names: Iterable[str] | None = None) -> dict[str, Problem]:
    """Its problems by name: all of them, or those that are named.

    The minima that it lists are not used: some are of another scaling, others higher than
    what solvers find. Importing it takes up to a minute.

    **Raises:**

    `UsageError` if it is not installed, or does not know a name.
    """
    found = {p.name: p for p in _imported().unconstrained_minimisation_problems}
    chosen = found if names is None else choose("problem", found, names)
    return {
        name: Problem(name, p.objective, lambda p=p: (p.y0, p.args))
        for name, p in chosen.items()
    }
