from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from ._problem import AbstractProblem
from ._solver import LineSearchMinimiser
from ._study import collect


def run_grid(
    problem: AbstractProblem,
    families: Mapping[str, Callable[[Array], LineSearchMinimiser]],
    values: Sequence[float],
    *,
    seeds: int | Sequence[int],
    steps: int,
    evaluations: int = 1,
    progress: bool = True,
    chunk: int = 50,
) -> xr.Dataset:
    """Run families of solvers that differ in one number, over a grid of it: each family
    one compiled program, vmapped over the grid and over the seeds.

    ```python
    rates = np.geomspace(1e-3, 1, 7)
    family = lambda rate: LineSearchMinimiser(SGD(), LearningRate(rate))
    curvopt.run_grid(problem, {"SGD": family}, rates, seeds=[100, 101], steps=500)
    ```

    **Arguments:**

    - `problem`: what to train.
    - `families`: by name, functions from the number (a scalar array) to a solver.
    - `values`: the grid.
    - the rest as in [`curvopt.run_study`][].

    **Returns:**

    As [`curvopt.run_study`][], with dimensions `(strategy, value, seed, step)`.

    **Raises:**

    `ValueError` as [`curvopt.run_study`][], or if the grid is empty or not finite.
    """
    grid = np.asarray(values, dtype=float)
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all():
        raise ValueError(f"values must be at least one finite number, but are {values}.")
    for family in families.values():
        for value in grid:  # the errors of single values, before anything is compiled
            family(jnp.asarray(value))
    # One trace of the family serves the whole grid.
    stack = lambda family: eqx.filter_vmap(family)(jnp.asarray(grid))
    return collect(
        problem,
        {name: stack(family) for name, family in families.items()},
        dims=("value", "seed"),
        seeds=seeds,
        steps=steps,
        evaluations=evaluations,
        progress=progress,
        chunk=chunk,
    ).assign_coords(value=grid)
