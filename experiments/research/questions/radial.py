"""Batch normalisation: what the part of a step along the weights does to the rescaling,
where the loss does not see it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray, PyTree

import curvopt
from strategies import recipes

from .._bench import Bench
from .._by_hand import observed
from .._claims import claims, counted
from .._families import DIRECTIONS
from .._latex import plain, table
from .._question import Findings, Question
from .._standings import final


CONSTANT, HINDSIGHT = r"$\ell = 1/2$", "hindsight"

# A run takes minutes; a comparison needs eight seeds.
_SEEDS = 8


def _without(direction: str) -> str:
    return f"{direction}, tangential"


def _tangential(u: Array, y: Array) -> Array:
    """`u` without its part along each filter of a kernel `y`."""
    axes = tuple(range(1, y.ndim))
    along = jnp.sum(u * y, axes, keepdims=True)
    return u - curvopt.safe_divide(along, jnp.sum(y * y, axes, keepdims=True)) * y


class Tangential(curvopt.AbstractDirection):
    r"""Another direction, without its part along the filters of the convolutions:
    $u_i - \langle u_i, w_i \rangle w_i / \|w_i\|^2$ for each filter $w_i$, the weights of
    one channel of the output.

    A batch normalisation divides by the norm of the filter, so that to the loss this part
    is no motion, but it makes the filter longer and later steps a smaller rotation.

    **Arguments:**

    - `direction`: any direction.

    Source: the projection is that of Heo et al., *AdamP*, 2021, without their test.
    """

    direction: curvopt.AbstractDirection

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> Any:
        return self.direction.init(y, key=key)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: Any
    ) -> tuple[curvopt.Descent, Any]:
        descent, state = self.direction.step(model, y, state)

        def projected(u: PyTree[Array]) -> PyTree[Array]:
            # Convolutions are the only arrays of four dimensions.
            return jax.tree.map(lambda u, y: _tangential(u, y) if y.ndim == 4 else u, u, y)

        u = projected(descent.u)
        # Without memory both are one vector, and the line along it is evaluated once.
        fresh = u if descent.fresh is descent.u else projected(descent.fresh)
        return curvopt.Descent(u, fresh), state


def _strategies(bench: Bench) -> dict[str, curvopt.LineSearchMinimiser]:
    """Constant l with two directions and hindsight with Adam, each with the whole direction
    and without its radial part."""
    whole = {name: DIRECTIONS[name] for name in ("SGD", "Adam")}
    directions = whole | {_without(k): Tangential(x) for k, x in whole.items()}
    hindsight = lambda name: recipes.hindsight(directions[name], steps=bench.steps)
    return {
        f"{name}, {CONSTANT}": recipes.rescaled_constant(direction)
        for name, direction in directions.items()
    } | {f"{name}, {HINDSIGHT}": hindsight(name) for name in ("Adam", _without("Adam"))}


def _growth(bench: Bench, solver: curvopt.LineSearchMinimiser) -> float:
    """The norm of a filter at the end over that after the first step, a geometric mean over
    the filters, in one run."""

    def observe(params: PyTree[Array], _: Any) -> Array:
        kernels = [x for x in jax.tree.leaves(params) if x.ndim == 4]
        squares = [jnp.sum(x * x, (1, 2, 3)) for x in kernels]
        return jnp.log(jnp.concatenate(squares)) / 2

    norms, _ = observed(bench, solver, observe, bench.tuning_seeds[0])
    return float(np.exp(np.mean(norms[-1] - norms[0])))


def ask(bench: Bench) -> xr.Dataset:
    """Run both rules with the whole direction and without its radial part, and watch the
    norms of the filters."""
    strategies = _strategies(bench)
    seeds = min(_SEEDS, bench.seeds)
    out = bench.outcomes(bench.compare("radial", strategies, seeds=seeds))
    growth = [_growth(bench, solver) for solver in strategies.values()]
    return out.assign(growth=("strategy", np.array(growth, np.float32)))


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """The final losses, the growth of the filters and the comparisons."""
    data = next(iter(results.values()))
    ends, growth = final(data).mean("seed"), data.growth
    rules = {f"{name}, {CONSTANT}": (name, CONSTANT) for name in ("SGD", "Adam")}
    rules[f"Adam, {HINDSIGHT}"] = "Adam", HINDSIGHT
    pairs = {
        name: (f"{_without(direction)}, {rule}", name)
        for name, (direction, rule) in rules.items()
    }
    found = claims(data, list(pairs.values()))
    head = ["", "loss", "without", "difference", "growth", "without"]
    numbers = {
        "RadialSeeds": str(data.sizes["seed"]),
        "RadialSteps": data.attrs["steps"],
        "RadialGrowth": plain(float(growth.max()), 3),
        **counted({"": found}, list(pairs.values()), "Radial"),
    }
    rows = [head]
    for name, pair in pairs.items():
        without, whole = (float(ends.sel(strategy=s)) for s in pair)
        grown = [float(growth.sel(strategy=s)) for s in reversed(pair)]
        own = found[pair]
        difference = f"{100 * own.mean_difference / whole:+.1f}"
        if own.holds:
            difference = rf"\mathbf{{{difference}}}"
        rows.append(
            [
                name,
                plain(whole, 4),
                plain(without, 4),
                f"${difference}$",
                *(plain(x, 3) for x in grown),
            ]
        )
    return Findings({}, numbers, {"radial": table(rows, "lrrrrr")})


RADIAL = Question(
    "radial",
    "Along the weights before a normalisation",
    ask,
    conclude,
    ("resnet",),
)
