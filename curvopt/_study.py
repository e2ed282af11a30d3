import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import xarray as xr

from ._checks import check_count
from ._cost import EvaluationCosts
from ._dataset import dataset
from ._problem import AbstractProblem
from ._run import progress_bar, run
from ._solver import LineSearchMinimiser


def _seed_numbers(seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, (int, np.integer)):
        return list(range(check_count("seeds", seeds)))
    if not all(isinstance(seed, (int, np.integer)) for seed in seeds):
        raise ValueError(f"seeds must be integers, but are {list(seeds)}.")
    numbers = [int(seed) for seed in seeds]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds must be at least one and distinct, but are {numbers}.")
    if min(numbers) < 0 or max(numbers) >= 2**32:
        raise ValueError(f"seeds must be from 0 to 2**32 - 1, but are {numbers}.")
    return numbers


def versions() -> dict[str, str]:
    """The versions that a result depends on, and where it ran."""
    packages = ("curvopt", "jax", "jaxlib", "equinox", "optimistix", "optax", "numpy")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    device = jax.devices()[0]
    return found | {"device": f"{device.platform}: {device.device_kind}"}


def _first(solver: LineSearchMinimiser, dims: tuple[str, ...]) -> LineSearchMinimiser:
    """The solver of the first lane; its hyper-parameters have all axes but the seeds'."""
    corner = (0,) * (len(dims) - 1)
    return jtu.tree_map(lambda x: x[corner] if eqx.is_array(x) else x, solver)


def _attributes(
    problem: AbstractProblem, solvers: Mapping[str, Any], steps: int
) -> dict[str, Any]:
    return {
        "problem": eqx.tree_pformat(problem),
        "strategies": json.dumps({k: eqx.tree_pformat(v) for k, v in solvers.items()}),
        "steps": steps,
        "versions": json.dumps(versions()),
    }


def _concat(parts: list[xr.Dataset]) -> xr.Dataset:
    return xr.concat(
        parts,
        dim="strategy",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )


def collect(
    problem: AbstractProblem,
    solvers: Mapping[str, LineSearchMinimiser],
    *,
    dims: tuple[str, ...],
    seeds: int | Sequence[int],
    steps: int,
    evaluations: int,
    progress: bool,
    chunk: int,
    on_strategy: Callable[[xr.Dataset], Any] | None = None,
) -> xr.Dataset:
    """Run every solver from every seed: what studies and grids share.

    **Arguments:**

    - `solvers`: by name; their hyper-parameters have an axis for each of `dims` but the
        last, which is `"seed"`.
    - the rest as in [`curvopt.run_study`][].
    """
    numbers = _seed_numbers(seeds)
    if not solvers:
        raise ValueError("there is no strategy to run: pass at least one by name.")
    for name, solver in solvers.items():
        if not isinstance(solver, LineSearchMinimiser):
            raise ValueError(
                f"the strategy {name!r} must be a curvopt.LineSearchMinimiser, but it is "
                f"{type(solver).__name__}."
            )
    for name, n in (("steps", steps), ("evaluations", evaluations), ("chunk", chunk)):
        check_count(name, n)
    keys = jax.vmap(jr.key)(jnp.array(numbers, jnp.uint32))
    axes = tuple(dim != "seed" for dim in dims)
    costs: dict[str, EvaluationCosts] = {}
    parts, data = [], xr.Dataset()
    with progress_bar(steps * len(solvers), "study", progress) as bar:
        for name, solver in solvers.items():
            bar.set_description(name)
            out = run(
                problem,
                solver,
                keys,
                axes,
                steps=steps,
                evaluations=evaluations,
                chunk=chunk,
                bar=bar,
            )
            method = solver.curvature
            known = costs.setdefault(repr(method), EvaluationCosts(problem, method))
            parts.append(dataset(out, dims, _first(solver, dims).direction, known))
            data = (
                _concat(parts)
                .assign_coords(strategy=list(solvers)[: len(parts)], seed=numbers)
                .assign_attrs(_attributes(problem, solvers, steps))
            )
            if on_strategy is not None:
                on_strategy(data)
    return data


def run_study(
    problem: AbstractProblem,
    strategies: Mapping[str, LineSearchMinimiser],
    *,
    seeds: int | Sequence[int],
    steps: int,
    evaluations: int = 10,
    progress: bool = True,
    chunk: int = 50,
    on_strategy: Callable[[xr.Dataset], Any] | None = None,
) -> xr.Dataset:
    """Run every strategy from every seed, each strategy one compiled program that is
    vmapped over the seeds.

    A seed gives the same initial parameters and the same batches to every strategy, so
    that they can be compared in pairs. A seed whose loss turns non-finite is recorded
    as it is, and touches no other.

    **Arguments:**

    - `problem`: what to train.
    - `strategies`: solvers by name.
    - `seeds`: how many (`0 .. seeds - 1`), or which, as integers.
    - `steps`, `evaluations`, `progress`, `chunk`: as in [`curvopt.train`][].
    - `on_strategy`: called after each strategy with the dataset of all that are
        finished; to save them, so that a crash loses none.

    **Returns:**

    An `xarray.Dataset` with dimensions `(strategy, seed, step)`: `loss`, `step_size`,
    `slope`, `curvature`, `gradient_equivalents`, what was evaluated and which guards
    acted; with `(strategy, seed, evaluation_step)`: the problem's metrics; with
    `(strategy,)`: `seconds` and `compile_seconds`. Definitions, units, the problem, the
    strategies and versions are attributes.

    **Raises:**

    `ValueError` if there is no strategy, seeds repeat, or a count is below 1.
    """
    return collect(
        problem,
        strategies,
        dims=("seed",),
        seeds=seeds,
        steps=steps,
        evaluations=evaluations,
        progress=progress,
        chunk=chunk,
        on_strategy=on_strategy,
    )
