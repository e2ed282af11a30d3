"""The unconstrained problems of CUTEst, from `sif2jax`."""

import importlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from .._names import choose, UsageError
from ._problem import Problem


def _imported() -> Any:
    """The package, imported with its arrays in float64."""
    # Importing it enables float64 for the whole process: undone below.
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
    """The problems of `sif2jax` by name: all of them, or the named ones.

    Its listed minima are not used: some have another scaling, others are higher than what
    solvers find. The import takes up to a minute.

    **Raises:**

    `UsageError` if the package is not installed, or a name is unknown.
    """
    found = {p.name: p for p in _imported().unconstrained_minimisation_problems}
    chosen = found if names is None else choose("problem", found, names)
    return {
        name: Problem(name, p.objective, lambda p=p: (p.y0, p.args))
        for name, p in chosen.items()
    }
