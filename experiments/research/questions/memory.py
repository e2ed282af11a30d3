r"""Memory: how to keep the scale of $\ell$ under momentum and Adam."""

import dataclasses
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import matplotlib.figure
import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from curvopt import plots

from .._bench import Bench
from .._choice import at_edge, best_value, Common, common_value, decades, shortfall
from .._families import CONSTANT, COSINE, DIRECTIONS, KINDS, RATES
from .._latex import between, percent, plain, table
from .._policies import (
    BARE,
    DIRECTION,
    DIRECTION_LONG,
    DISPLACEMENTS,
    FRESH,
    FRESH_LONG,
    PLANE,
    scales,
    SIGNED,
)
from .._question import Findings, Question
from .._style import TEXT_WIDTH


@dataclasses.dataclass(frozen=True)
class _Policy:
    """The look of a policy.

    **Attributes:**

    - `label`: its label in figure and tables.
    - `name`: its name in the paper's numbers.
    - `memoryless`: the policy that it reduces to for a direction without memory.
    - `marker`, `line`: the marker and line style, for greyscale.
    """

    label: str
    name: str
    memoryless: str
    marker: str
    line: Any


_DASHED, _DOTTED = (0, (5, 1.5)), (0, (1, 1.2))

_POLICIES: dict[str, _Policy] = {
    FRESH: _Policy("fresh part, 0.9", "FreshShort", FRESH, "o", "-"),
    FRESH_LONG: _Policy("fresh part, 0.99", "FreshLong", FRESH_LONG, "s", _DASHED),
    DIRECTION: _Policy("direction, 0.9", "DirectionShort", FRESH, "^", "-"),
    DIRECTION_LONG: _Policy("direction, 0.99", "DirectionLong", FRESH_LONG, "D", _DASHED),
    SIGNED: _Policy("direction, signed, 0.99", "Signed", FRESH_LONG, "v", _DOTTED),
    DISPLACEMENTS: _Policy("displacements, 0.9", "Displacements", FRESH, "P", "-"),
    PLANE: _Policy("plane", "Plane", BARE, "*", _DOTTED),
}

_WITH_MEMORY = ("Momentum", "Adam")
_MEMORYLESS = "SGD"

_ASKED = [
    *((direction, policy, COSINE) for direction in _WITH_MEMORY for policy in _POLICIES),
    *(
        (direction, policy, CONSTANT)
        for direction in _WITH_MEMORY
        for policy in (FRESH, DIRECTION_LONG)
    ),
    *((_MEMORYLESS, policy, COSINE) for policy in (FRESH, FRESH_LONG, BARE)),
    (_MEMORYLESS, FRESH, CONSTANT),
]


def _tuned(bench: Bench) -> dict[tuple[str, str], float]:
    """The lowest loss at any raw learning rate, by direction and schedule."""
    found = {}
    for name in (_MEMORYLESS, *_WITH_MEMORY):
        tried = bench.outcomes(bench.rates(name, DIRECTIONS[name], RATES[name]))
        lowest = tried[bench.setting.metric].mean("seed").min("learning_rate")
        found |= {(name, kind): float(lowest.sel(strategy=kind)) for kind in KINDS}
    return found


def ask(bench: Bench) -> xr.Dataset:
    r"""Run Momentum, Adam and, for comparison, SGD with every policy at all values of
    $\ell$; keeps the fraction of positive slopes along the measured line, and the loss with
    the best raw learning rate."""
    data = scales(bench, _ASKED)
    out = bench.outcomes(data)
    out["ascent"] = data.guard_ascent.mean(["step", "seed"]).astype(np.float32)
    tuned = _tuned(bench)
    losses = [tuned[direction, kind] for direction, _, kind in _ASKED]
    return out.assign(tuned=("strategy", np.array(losses, np.float32)))


@dataclasses.dataclass(frozen=True)
class Tried:
    r"""One policy at all values of $\ell$, with one direction in one setting.

    **Attributes:**

    - `loss`: the final loss, mean over seeds.
    - `lost`: the shortfall against the lowest loss of this direction with any policy or raw
        learning rate.
    - `tuned`, `tuned_lost`: the same for the best raw learning rate.
    - `ascent`: the fraction of steps with a positive measured slope.
    - `cost`: the cost of a step, in gradient-equivalents.
    """

    loss: xr.DataArray
    lost: xr.DataArray
    tuned: float
    tuned_lost: float
    ascent: xr.DataArray
    cost: xr.DataArray

    @property
    def best(self) -> float:
        return best_value(self.lost, "ell")

    @property
    def relative(self) -> float:
        """The lowest loss over that of the best raw learning rate."""
        return float(self.loss.min()) / self.tuned


# By policy and setting.
Tries = Mapping[str, Mapping[str, Tried]]


def _tries(data: xr.Dataset, direction: str, kind: str) -> dict[str, Tried]:
    """The results of each policy in one setting."""
    own = data.isel(strategy=(data.direction == direction) & (data.schedule == kind))
    own = own.swap_dims(strategy="policy")
    loss, steps = own[data.attrs["metric"]], int(data.attrs["steps"])
    tuned = float(own.tuned[0])
    reached = min(tuned, float(loss.mean("seed").min()))

    def lost(values: xr.DataArray) -> xr.DataArray:
        return shortfall(values, own.start, "ell", reached)

    tuned_lost = float(lost(xr.full_like(loss[0], tuned))[0])
    cost = own.gradient_equivalents.mean("seed") / steps
    return {
        policy: Tried(
            loss.sel(policy=policy).mean("seed"),
            lost(loss.sel(policy=policy)),
            tuned,
            tuned_lost,
            own.ascent.sel(policy=policy),
            cost.sel(policy=policy),
        )
        for policy in own.policy.values.tolist()
    }


def tries(results: Mapping[str, xr.Dataset], direction: str, kind: str) -> Tries:
    """All policies of a direction in all settings."""
    found = {name: _tries(data, direction, kind) for name, data in results.items()}
    policies = next(iter(found.values()))
    return {p: {name: by_policy[p] for name, by_policy in found.items()} for p in policies}


# By direction.
Everything = Mapping[str, Tries]


def _of_policy(everything: Everything, policy: str) -> dict[str, Tried]:
    """A policy with every direction in every setting; for a direction without memory it is
    the policy's memoryless form."""
    found = {}
    for direction, by_policy in everything.items():
        memory = direction in _WITH_MEMORY
        own = by_policy[policy if memory else _POLICIES[policy].memoryless]
        found |= {f"{direction}, {name}": tried for name, tried in own.items()}
    return found


def common(everything: Everything, policy: str) -> Common:
    r"""The one $\ell$ of a policy for all directions and settings."""
    losts = {name: tried.lost for name, tried in _of_policy(everything, policy).items()}
    return common_value(losts, "ell")


def _bests(everything: Everything, policy: str) -> list[float]:
    return [tried.best for tried in _of_policy(everything, policy).values()]


def _with_memory(everything: Everything) -> Everything:
    return {direction: everything[direction] for direction in _WITH_MEMORY}


def _named(ell: float) -> str:
    return str(Fraction(ell)) if np.isfinite(ell) else "--"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _texts(everything: Everything, policy: str) -> dict[str, str]:
    """The texts about a policy, by name."""
    one, bests = common(everything, policy), _bests(_with_memory(everything), policy)
    everywhere = _bests(everything, policy)
    texts = {
        "Lowest": _named(min(bests)),
        "Highest": _named(max(bests)),
        "Spread": plain(max(everywhere) / min(everywhere)),
        "Common": _named(one.value),
        "Mean": percent(one.mean),
        "Worst": percent(one.worst),
    }
    for direction in _WITH_MEMORY:
        own = everything[direction][policy].values()
        up = _mean(float(tried.ascent.sel(ell=one.value)) for tried in own)
        cost = _mean(float(tried.cost.sel(ell=one.value)) for tried in own)
        texts |= {f"Ascent{direction}": percent(up), f"Cost{direction}": plain(cost, 3)}
    return texts


# The texts that the paper cites.
_ASCENT, _COST = ("AscentMomentum", "AscentAdam"), ("CostMomentum", "CostAdam")
_SAID: dict[str, tuple[str, ...]] = {
    FRESH: ("Lowest", "Highest", *_COST),
    DIRECTION: ("Mean", *_ASCENT),
    DIRECTION_LONG: ("Lowest", "Highest", "Mean", *_ASCENT),
    SIGNED: ("Mean",),
    PLANE: _COST,
}

# The columns of the table of policies: title and text.
_COLUMNS = {
    r"best $\ell$": "{Lowest} to {Highest}",
    "spread": "{Spread}",
    r"one $\ell$": "{Common}",
    "lost, mean": "{Mean}",
    "at worst": "{Worst}",
    r"$s > 0$": "{AscentMomentum}, {AscentAdam}",
    r"cost ($C$)": "{CostMomentum}, {CostAdam}",
}


def _common_table(texts: Mapping[str, Mapping[str, str]]) -> str:
    header = ["measured", *_COLUMNS]
    rows = [
        [_POLICIES[policy].label, *(text.format_map(own) for text in _COLUMNS.values())]
        for policy, own in texts.items()
    ]
    return table([header, *rows], "l" + "r" * len(_COLUMNS))


def _cell(tried: Tried, lowest: float) -> str:
    loss = plain(tried.relative, 3)
    edge = "" if at_edge(tried.lost, "ell") == 0 else r"\rlap{*}"
    bold = rf"\textbf{{{loss}}}" if tried.relative == lowest else loss
    return rf"{_named(tried.best)}{edge}\enspace{{}}{bold}"


def _best_table(everything: Everything, labels: Mapping[str, str]) -> str:
    """The best value of every policy in every setting, and its loss relative to that of the
    best raw learning rate."""
    rows = [["measured", *labels.values()]]
    for direction, by_policy in everything.items():
        own = [policy for policy in by_policy if policy != BARE]
        rows.append([rf"\emph{{{direction}}}", *[""] * len(labels)])
        for policy in own:
            cells = by_policy[policy]
            lowest = {n: min(by_policy[p][n].relative for p in own) for n in labels}
            label = _POLICIES[policy].label
            if direction == _MEMORYLESS:
                label = label.replace("fresh part", "gradient")
            rows.append([label, *(_cell(cells[n], lowest[n]) for n in labels)])
    return table(rows, "l" + "r" * len(labels))


# Heights in inches: a row of panels; titles, labels and legend together.
_ROW, _MARGIN = 1.05, 0.85

_GREY = "#888888"


def _draw(ax: Axes, everything: Everything, direction: str, name: str) -> None:
    """One setting: every policy, plain SGD, and the best raw rate."""
    sgd = everything[_MEMORYLESS][FRESH][name].lost
    ax.plot(sgd.ell, sgd.clip(max=1), color=_GREY, linewidth=2.0, alpha=0.6)
    tuned = everything[direction][FRESH][name].tuned_lost
    ax.axhline(tuned, color="black", linewidth=0.8, linestyle=(0, (4, 2)))
    for (policy, look), colour in zip(_POLICIES.items(), plots.COLOURS):
        lost = everything[direction][policy][name].lost.clip(max=1)
        style = {"linestyle": look.line, "marker": look.marker, "markersize": 3.5}
        ax.plot(lost.ell, lost, color=colour, linewidth=0.9, **style)


def _handles() -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, linestyle=look.line, marker=look.marker)
        for look, colour in zip(_POLICIES.values(), plots.COLOURS)
    ]
    for handle, look in zip(handles, _POLICIES.values()):
        handle.set(markersize=3.5, linewidth=0.9, label=look.label)
    sgd = Line2D([], [], color=_GREY, linewidth=2.0, alpha=0.6, label="SGD, 0.9")
    tuned = Line2D([], [], color="black", linewidth=0.8, linestyle=(0, (4, 2)))
    tuned.set_label("best raw rate")
    return [*handles, sgd, tuned]


def _figure(everything: Everything, labels: Mapping[str, str]) -> matplotlib.figure.Figure:
    r"""The shortfall at each $\ell$, on an axis that is linear near zero."""
    size = (TEXT_WIDTH, _ROW * len(labels) + _MARGIN)
    with matplotlib.style.context(plots.STYLE):
        figure = matplotlib.figure.Figure(size, layout="constrained")
        axes = figure.subplots(
            len(labels), len(_WITH_MEMORY), sharex=True, sharey=True, squeeze=False
        )
        for row, (name, label) in zip(axes, labels.items()):
            for ax, direction in zip(row, _WITH_MEMORY):
                _draw(ax, everything, direction, name)
                ax.set_title(f"{direction}: {label}")
            row[0].set_ylabel("lost")
        axes[0, 0].set_xscale("log", base=2)
        axes[0, 0].set_yscale("symlog", linthresh=0.01, linscale=0.6)
        axes[0, 0].set_ylim(-0.002, 1.1)
        axes[0, 0].set_yticks([0, 0.01, 0.1, 1], ["0", "0.01", "0.1", "1"])
        for ax in axes[-1]:
            ax.set_xlabel(r"$\ell$")
        figure.legend(handles=_handles(), loc="outside upper center", ncols=3)
    return figure


def _counts(results: Mapping[str, xr.Dataset]) -> dict[str, str]:
    seeds = [data.sizes["seed"] for data in results.values()]
    steps = [int(data.attrs["steps"]) for data in results.values()]
    return {
        "MemorySettings": str(len(results)),
        "MemorySeedsLeast": str(min(seeds)),
        "MemorySeedsMost": str(max(seeds)),
        "MemoryStepsLeast": str(min(steps)),
        "MemoryStepsMost": str(max(steps)),
    }


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    r"""Every policy against $\ell$, its best values, and one value for all directions."""
    directions = (_MEMORYLESS, *_WITH_MEMORY)
    everything = {d: tries(results, d, COSINE) for d in directions}
    texts = {policy: _texts(everything, policy) for policy in _POLICIES}
    numbers = _counts(results)
    for policy, said in _SAID.items():
        name = _POLICIES[policy].name
        numbers |= {f"Memory{name}{what}": texts[policy][what] for what in said}
    least = min(_POLICIES, key=lambda policy: common(everything, policy).mean)
    steady = min(
        _POLICIES,
        key=lambda policy: (
            decades(_bests(everything, policy)),
            common(everything, policy).mean,
        ),
    )
    numbers |= {
        "MemoryLeast": _POLICIES[least].label,
        **{
            f"MemoryLeast{what}": texts[least][what] for what in ("Common", "Mean", "Worst")
        },
        "MemorySteady": _POLICIES[steady].label,
        "MemorySteadySpread": texts[steady]["Spread"],
    }
    tuned = [x.tuned_lost for tries in everything.values() for x in tries[FRESH].values()]
    numbers |= {
        "MemoryTunedMean": percent(_mean(tuned)),
        "MemoryTunedWorst": percent(max(tuned)),
    }
    plain_descent = [tried.best for tried in everything[_MEMORYLESS][FRESH].values()]
    ends = _named(min(plain_descent)), _named(max(plain_descent))
    numbers["MemoryPlainBest"] = between(*ends)
    constant = {d: tries(results, d, CONSTANT) for d in _WITH_MEMORY}
    for policy in (FRESH, DIRECTION_LONG):
        bests, name = _bests(constant, policy), _POLICIES[policy].name
        numbers[f"Memory{name}ConstantLowest"] = _named(min(bests))
        numbers[f"Memory{name}ConstantHighest"] = _named(max(bests))
    labels = {name: data.attrs["label"] for name, data in results.items()}
    short = {name: label.replace(",", " ").split()[0] for name, label in labels.items()}
    return Findings(
        {"memory": _figure(everything, labels)},
        numbers,
        {
            "memory-best": _best_table(everything, short),
            "memory-common": _common_table(texts),
        },
    )


MEMORY = Question("memory", "How does it keep its scale under momentum?", ask, conclude)
