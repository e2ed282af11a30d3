"""Distance: how far a run gets from its start, as a second scale for the step size."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.style
import numpy as np
import xarray as xr
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt
from curvopt.plots import STYLE
from strategies import HindsightRescaling, LearningRate, recipes

from .._bench import Bench
from .._by_hand import observed
from .._claims import claims, claims_table, counted
from .._families import decades, DIRECTIONS
from .._latex import between, percent, plain, table
from .._question import Findings, Question
from .._standings import final, label, lost
from .._style import legend, look


BY_CURVATURE, BY_DISTANCE = "curvature", "distance"
MEAN, SMALLER = "geometric mean", "smaller"

# The learning rate of the recipe for directions with a memory, and the constant of the
# distance, chosen on the tuning seeds; and factors for both.
ELL, CONSTANT = 0.8, 0.5
FACTORS = (0.5, 1.0, 2.0)

# Learning rates around the best ones of all problems: 3e-4 to 3e-2.
RATES = decades(-4, -1)[1:-1]

_DIRECTION = "Adam"

# The recipe's curvature, of a part of the batch: the same for all rules here.
_PART = curvopt.SubsampledCurvature(1 / 16)


class _Travels(eqx.Module):
    """The start, the largest distance from it, and a sum of squared lengths."""

    start: PyTree[Array]
    farthest: Scalar
    squares: Scalar

    @classmethod
    def begin(cls, y: PyTree[Array]) -> "_Travels":
        zero = jnp.zeros((), curvopt.scalar_dtype(y))
        return cls(y, zero, zero)

    def at(self, y: PyTree[Array], length: Scalar) -> "_Travels":
        away = curvopt.tree_norm(jax.tree.map(jnp.subtract, y, self.start))
        farthest = jnp.maximum(self.farthest, away)
        return _Travels(self.start, farthest, self.squares + length**2)


class ReachedState(eqx.Module):
    """What was travelled, and the state of the rule inside."""

    travels: _Travels
    inner: PyTree[Array]

    @property
    def reach(self) -> Scalar:
        r"""$R$, zero before the second step."""
        return curvopt.safe_divide(self.travels.farthest, jnp.sqrt(self.travels.squares))


class Reached(curvopt.AbstractLineSearch):
    r"""Another rule, and the distance that it covers over that of a random walk,

    $$R_k = \max_{j \leq k} \|y_j - y_0\| \Big/ \sqrt{\sum_{j < k} \tau_j^2 \|v_j\|^2},$$

    where $v_j$ is the fresh part of the direction: a walk whose steps $\tau_j v_j$ are
    independent has $R$ of about one.

    **Arguments:**

    - `inner`: any rule.
    """

    inner: curvopt.AbstractLineSearch

    def init(self, y: PyTree[Array]) -> ReachedState:
        return ReachedState(_Travels.begin(y), self.inner.init(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: ReachedState
    ) -> tuple[Scalar, curvopt.StepInfo, ReachedState]:
        step_size, info, inner = self.inner.step(line, count, state.inner)
        length = step_size * curvopt.tree_norm(line.fresh.u)
        return step_size, info, ReachedState(state.travels.at(line.y, length), inner)


class DistanceOverGradients(curvopt.AbstractLineSearch):
    r"""The distance from the start over the lengths of the directions,

    $$\tau_k = c \max_{j \leq k} \|y_j - y_0\| \Big/ \sqrt{\sum_{j \leq k} \|u_j\|^2}.$$

    **Arguments:**

    - `constant`: $c$.
    - `schedule`: a function of the step count with peak 1 that multiplies the step size.
    - `first`: the distance is at least this fraction of the norm of the initial parameters.

    Source: Ivgi, Hinder & Carmon, *DoG is SGD's best friend*, 2023, with $c = 1$ and
    $u = -g$.
    """

    constant: curvopt.Number = curvopt.hyperparameter(above=0)
    schedule: curvopt.Schedule | None = curvopt.schedule(None)
    first: curvopt.Number = curvopt.hyperparameter(3e-3, above=0)

    def init(self, y: PyTree[Array]) -> _Travels:
        return _Travels.begin(y)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: _Travels
    ) -> tuple[Scalar, curvopt.StepInfo, _Travels]:
        state = state.at(line.y, curvopt.tree_norm(line.u))
        least = self.first * curvopt.tree_norm(state.start)
        distance = self.constant * jnp.maximum(state.farthest, least)
        step_size = curvopt.safe_divide(distance, jnp.sqrt(state.squares))
        factor = 1 if self.schedule is None else self.schedule(count)
        return factor * step_size, curvopt.StepInfo(), state


class Combined(curvopt.AbstractLineSearch):
    """The step sizes of two rules, combined.

    **Arguments:**

    - `one`, `other`: the rules.
    - `combine`: a function of both step sizes.
    """

    one: curvopt.AbstractLineSearch
    other: curvopt.AbstractLineSearch
    combine: Callable[[Scalar, Scalar], Scalar] = eqx.field(static=True)

    def init(self, y: PyTree[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
        return self.one.init(y), self.other.init(y)

    def step(
        self,
        line: curvopt.Line,
        count: Int[Array, ""],
        state: tuple[PyTree[Array], PyTree[Array]],
    ) -> tuple[Scalar, curvopt.StepInfo, tuple[PyTree[Array], PyTree[Array]]]:
        a, info, one = self.one.step(line, count, state[0])
        b, more, other = self.other.step(line, count, state[1])
        return self.combine(a, b), info.plus(more), (one, other)


def geometric_mean(a: Scalar, b: Scalar) -> Scalar:
    return jnp.sqrt(a) * jnp.sqrt(b)


def _curvature(bench: Bench) -> HindsightRescaling:
    """The rule of the recipe with a known horizon."""
    rule = recipes.hindsight(DIRECTIONS[_DIRECTION], steps=bench.steps).line_search
    assert isinstance(rule, HindsightRescaling)
    return rule


def _solver(rule: curvopt.AbstractLineSearch) -> curvopt.LineSearchMinimiser:
    return curvopt.LineSearchMinimiser(DIRECTIONS[_DIRECTION], rule, curvature=_PART)


def _strategies(rule: HindsightRescaling) -> dict[str, curvopt.LineSearchMinimiser]:
    distance = DistanceOverGradients(CONSTANT, rule.schedule)
    rules = {
        BY_CURVATURE: rule,
        BY_DISTANCE: distance,
        MEAN: Combined(rule, distance, geometric_mean),
        SMALLER: Combined(rule, distance, jnp.minimum),
    }
    return {name: _solver(one) for name, one in rules.items()}


def _factors(bench: Bench, curvature: HindsightRescaling) -> xr.Dataset:
    """The final losses with a half and twice of the number of each rule, means over the
    tuning seeds."""

    def by_curvature(factor: Scalar) -> curvopt.LineSearchMinimiser:
        return _solver(dataclasses.replace(curvature, learning_rate=ELL * factor))

    def by_distance(factor: Scalar) -> curvopt.LineSearchMinimiser:
        distance = DistanceOverGradients(CONSTANT * factor, curvature.schedule)
        return _solver(distance)

    families = {BY_CURVATURE: by_curvature, BY_DISTANCE: by_distance}
    tried = bench.sweep("distance-factors", families, {"factor": FACTORS})
    loss = curvopt.final_metric(tried, bench.setting.metric).mean("seed")
    kept = loss.rename(strategy="rule").transpose("rule", "factor").astype(np.float32)
    return kept.drop_vars("evaluation_step", errors="ignore").to_dataset(name="factors")


def _reach(_: PyTree[Array], state: Any) -> Scalar:
    return state.line_search.reach


def _reaches(bench: Bench, curvature: HindsightRescaling) -> xr.Dataset:
    """By learning rate, and in hindsight, the reach in the middle of the run, where the
    schedule begins, and the final loss; means over the tuning seeds."""

    def run(rule: curvopt.AbstractLineSearch, seed: int) -> tuple[float, float]:
        reach, metrics = observed(bench, _solver(Reached(rule)), _reach, seed)
        return float(reach[bench.steps // 2]), metrics[bench.setting.metric]

    rates = [LearningRate(rate, curvature.schedule) for rate in RATES]
    found = np.array(
        [[run(rule, seed) for seed in bench.tuning_seeds] for rule in [*rates, curvature]],
        np.float32,
    ).mean(axis=1)
    by_rate = found[:-1]
    return xr.Dataset(
        {
            "reach": ("rate", by_rate[:, 0]),
            "tuning_loss": ("rate", by_rate[:, 1]),
            "reach_in_hindsight": found[-1, 0],
        },
        {"rate": RATES},
    )


def ask(bench: Bench) -> xr.Dataset:
    """Run the rules of curvature, distance and both on the reported seeds; on the tuning
    seeds try a half and twice of their numbers, and how far learning rates reach."""
    curvature = _curvature(bench)
    out = bench.outcomes(bench.compare("distance", _strategies(curvature)))
    return out.merge(_factors(bench, curvature)).merge(_reaches(bench, curvature))


def _overview(results: Mapping[str, xr.Dataset]) -> str:
    """The final losses by rule, the lowest in bold; and those of the tuning seeds with the
    numbers times a half, one and two."""
    rules = (BY_CURVATURE, BY_DISTANCE, MEAN, SMALLER)
    multiples = "${} / 2$", "${}$", "$2 {}$"
    tried = [x.format(number) for number in (r"\ell", "c") for x in multiples]
    rows = [["", *rules, *tried]]
    for data in results.values():
        ends = final(data).mean("seed")
        losses = [float(ends.sel(strategy=rule)) for rule in rules]
        cells = [plain(x, 4) for x in losses]
        lowest = int(np.argmin(losses))
        cells[lowest] = rf"\textbf{{{cells[lowest]}}}"
        found = data.factors.sel(rule=list(rules[:2]), factor=list(FACTORS)).values
        rows.append([label(data), *cells, *(plain(x, 4) for x in found.ravel().tolist())])
    return table(rows, "l" + "r" * (len(rows[0]) - 1))


def _further(data: xr.Dataset, rule: str, factor: float) -> float:
    """What is lost on the tuning seeds with the number times a factor, as a share of the
    decrease with the number itself; all of it above the start."""
    start = float(data.start.mean())
    loss, one = (float(data.factors.sel(rule=rule, factor=x)) for x in (factor, 1.0))
    loss = min(loss, start) if np.isfinite(loss) else start
    return (loss - one) / (start - one)


def _at_best(data: xr.Dataset) -> xr.Dataset:
    return data.isel(rate=int(data.tuning_loss.argmin("rate")))


def _figure(results: Mapping[str, xr.Dataset]) -> matplotlib.figure.Figure:
    """The reach by the learning rate over the best one."""
    with matplotlib.style.context(STYLE):
        figure = matplotlib.figure.Figure(figsize=(3.4, 2.6), layout="constrained")
        ax = figure.subplots()
        ax.axhline(1.0, color="0.6", linewidth=0.7)
        for k, data in enumerate(results.values()):
            relative = data.rate / float(_at_best(data).rate)
            ax.plot(relative, data.reach, label=label(data), **look(k))
        ax.set(xscale="log", yscale="log")
        ax.set_xlabel("learning rate over the best one")
        ax.set_ylabel("distance over a random walk's")
        legend(figure, [ax])
    return figure


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """The final losses by rule, the comparisons, and the reach by learning rate."""
    rivals = (BY_DISTANCE, MEAN, SMALLER)
    pairs = {name: (name, BY_CURVATURE) for name in rivals}
    found = {name: claims(data, list(pairs.values())) for name, data in results.items()}
    means = {
        rule: float(np.mean([lost(x).sel(strategy=rule).mean() for x in results.values()]))
        for rule in (BY_CURVATURE, *rivals)
    }
    at_best = [float(_at_best(data).reach) for data in results.values()]
    hindsight = [float(data.reach_in_hindsight) for data in results.values()]
    first = next(iter(results.values()))
    numbers = {
        "DistanceSeeds": str(first.sizes["seed"]),
        "DistanceConstant": f"{CONSTANT:g}",
        "DistanceReach": between(plain(min(at_best)), plain(max(at_best))),
        "DistanceReachHindsight": between(plain(min(hindsight)), plain(max(hindsight))),
        "DistanceReachShort": between(
            *(plain(f([float(d.reach[0]) for d in results.values()])) for f in (min, max))
        ),
        "DistanceReachLong": between(
            *(plain(f([float(d.reach[-1]) for d in results.values()])) for f in (min, max))
        ),
    }
    for rule in (BY_CURVATURE, BY_DISTANCE):
        for factor, name in ((0.5, "Half"), (2.0, "Twice")):
            further = np.mean([_further(data, rule, factor) for data in results.values()])
            numbers[f"Distance{name}{rule.title()}"] = percent(float(further))
    for rule, mean in means.items():
        name = rule.title().replace(" ", "")
        numbers[f"Distance{name}Lost"] = percent(mean)
        if rule in pairs:
            numbers |= counted(found, [pairs[rule]], f"Distance{name}")
    return Findings(
        {"distance-reach": _figure(results)},
        numbers,
        {
            "distance": _overview(results),
            "distance-claims": claims_table(results, found, {"against curvature": pairs}),
        },
    )


DISTANCE = Question("distance", "Distance as a second scale", ask, conclude)
