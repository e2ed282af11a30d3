"""Rivals: untuned recipes against tuned learning rates, and against methods that claim to
need no tuning."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import optax
import xarray as xr

import curvopt
from strategies import FromOptax, LearningRate, recipes

from .._bench import Bench
from .._claims import claims, claims_table, counted, Pair
from .._courses import courses
from .._families import DIRECTIONS, KINDS, RATES, raw
from .._latex import camel, percent, plain, table
from .._overview import everywhere, overview
from .._profiles import profiles, WAY
from .._question import Findings, Question
from .._reported import reported, WINDOWS
from .._standings import label, names, standing
from .._untuned import untuned


# Recipes; the second one without knowing the horizon, and with less curvature.
RESCALED, HINDSIGHT, LAYERWISE = "rescaled", "hindsight", "layerwise"
FREE, CHEAP = f"{HINDSIGHT}, no horizon", f"{HINDSIGHT}, a sixteenth"

# The rate of AdamW for all problems: the best for Adam under a cosine on four of the five.
ONE_RATE = 0.01


def _best_rate(bench: Bench, runs: xr.Dataset, kind: str) -> tuple[float, float]:
    """The learning rate with the lowest mean final loss over the tuning seeds, and the cost
    of trying all of them, in gradient-equivalents."""
    tried = runs.sel(strategy=kind)
    means = curvopt.final_metric(tried, bench.setting.metric).mean("seed")
    best = float(means.learning_rate[int(means.values.argmin())])
    return best, float(tried.gradient_equivalents.isel(step=-1).sum())


def _tuned(bench: Bench):
    """A solver for each direction and kind of schedule, at its best learning rate."""
    solvers, chosen = {}, {}
    for name, which in DIRECTIONS.items():
        runs = bench.rates(name, which, RATES[name])
        for kind in KINDS:
            rate, cost = _best_rate(bench, runs, kind)
            solver = raw(which, bench.schedule(kind))(learning_rate=rate)
            solvers[f"{name}, tuned {kind}"] = solver
            chosen[f"{name}, tuned {kind}"] = {"learning_rate": rate, "cost": cost}
    return solvers, chosen


def _ours(bench: Bench) -> dict[str, curvopt.LineSearchMinimiser]:
    """The recipes that know the number of steps, with every direction."""
    solvers = {}
    for name, which in DIRECTIONS.items():
        solvers[f"{name}, {RESCALED}"] = recipes.rescaled(which, steps=bench.steps)
        solvers[f"{name}, {HINDSIGHT}"] = recipes.hindsight(which, steps=bench.steps)
    solvers[f"Adam, {LAYERWISE}"] = recipes.layerwise(DIRECTIONS["Adam"], steps=bench.steps)
    solvers[f"Momentum, {CHEAP}"] = recipes.hindsight(
        DIRECTIONS["Momentum"],
        steps=bench.steps,
        curvature=curvopt.SubsampledCurvature(1 / 16),
    )
    return solvers


def averaged(name: str) -> str:
    """The name of a strategy whose answer is an average of the parameters."""
    return f"{name}, averaged"


# Without a number of steps, by layer.
LAYERWISE_FREE = averaged(f"Adam, {LAYERWISE}, no horizon")


def without_horizon(
    directions: Iterable[str],
) -> dict[str, curvopt.LineSearchMinimiser]:
    """The recipe without a number of steps, at its average and at the last point, and by
    layer at its average."""
    solvers = {}
    for name in directions:
        free = recipes.hindsight(DIRECTIONS[name])
        solvers[f"{name}, {FREE}"] = dataclasses.replace(free, average=None)
        solvers[averaged(f"{name}, {FREE}")] = free
    solvers[LAYERWISE_FREE] = recipes.layerwise(DIRECTIONS["Adam"])
    return solvers


def one_rate(bench: Bench) -> curvopt.LineSearchMinimiser:
    """AdamW as it is used without tuning: one rate for all problems, warm-up and cosine."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, ONE_RATE, max(1, bench.steps // 20), bench.steps
    )
    return curvopt.LineSearchMinimiser(FromOptax(optax.adamw(rate)), LearningRate(1.0))


def ask(bench: Bench) -> xr.Dataset:
    """Run the recipes with every direction, tuned rates, and rivals with their defaults on
    the reported seeds; keeps outcomes, learning curves and the time of a step."""
    tuned, chosen = _tuned(bench)
    ours = _ours(bench) | without_horizon(DIRECTIONS)
    rivals = {"AdamW, one rate": one_rate(bench)} | untuned(bench)
    out = reported(bench, tuned | ours | rivals)
    return out.assign_attrs(tuned=json.dumps(chosen))


# Momentum's recipe is compared with all rivals, SGD's also with those that follow the
# gradient.
_OURS, _OURS_PLAIN = f"Momentum, {HINDSIGHT}", f"SGD, {HINDSIGHT}"
_PLAIN = ("DoG", "DoG, averaged", "GeN", "CDAT", "SLS", "SPS")

# The coloured strategies in figures; the others are grey.
_SHOWN = (
    _OURS,
    f"Adam, {FREE}",
    _OURS_PLAIN,
    f"Adam, {LAYERWISE}",
    "Adam, tuned cosine",
    "SGD, tuned cosine",
    "Prodigy",
    "schedule-free",
)


# What the paper cites of strategies, besides the shortfall of each.
_SAID: dict[str, tuple[str, ...]] = {
    **{
        f"{name}, tuned {kind}": ("Mean",) for name in ("SGD", "Momentum") for kind in KINDS
    },
    "Adam, tuned cosine": ("Mean",),
    f"Adam, {LAYERWISE}": ("Mean", "Spent"),
    LAYERWISE_FREE: ("Mean",),
    f"Adam, {HINDSIGHT}": ("Mean",),
    **{averaged(f"{name}, {FREE}"): ("Mean",) for name in DIRECTIONS},
    **{f"{name}, tuned constant": ("Mean",) for name in DIRECTIONS},
    "DoG, averaged": ("Mean",),
    _OURS: ("Mean", "Spent", "Time"),
    f"Momentum, {CHEAP}": ("Mean", "Spent"),
    "AdamW, one rate": ("Mean",),
    "Prodigy": ("Mean",),
}


def _groups(strategies: Sequence[str]) -> dict[str, dict[str, Pair]]:
    """The comparisons by their purpose."""
    tuned = {
        f"{HINDSIGHT} against the tuned cosine": {
            name: (f"{name}, {HINDSIGHT}", f"{name}, tuned cosine") for name in DIRECTIONS
        },
        "without a horizon, averaged, against the tuned constant": {
            name: (averaged(f"{name}, {FREE}"), f"{name}, tuned constant")
            for name in DIRECTIONS
        },
    }
    # Ours and the tuned ones begin with a direction's name.
    untuned = [name for name in strategies if name.partition(",")[0] not in DIRECTIONS]
    return {
        **tuned,
        "with momentum, against the untuned": {name: (_OURS, name) for name in untuned},
        "with SGD, against the untuned along the gradient": {
            name: (_OURS_PLAIN, name) for name in untuned if name in _PLAIN
        },
    }


def _tuning(results: Mapping[str, xr.Dataset]) -> tuple[str, dict[str, str]]:
    """The mean cost over directions of choosing a learning rate, compared with one run of
    the recipe."""
    rows, ratios = [], []
    for data in results.values():
        chosen = json.loads(data.attrs["tuned"])
        costs = {
            kind: float(np.mean([chosen[f"{d}, tuned {kind}"]["cost"] for d in DIRECTIONS]))
            for kind in KINDS
        }
        ours = [f"{d}, {HINDSIGHT}" for d in DIRECTIONS]
        run = float(data.gradient_equivalents.sel(strategy=ours).mean())
        ratios += [cost / run for cost in costs.values()]
        shown = [plain(x, 3) for x in (*costs.values(), run)]
        rows.append([label(data), *shown, *(f"{x:.0f}" for x in ratios[-len(KINDS) :])])
    head = [f"tuned {kind}" for kind in KINDS]
    over = [f"{kind}, over" for kind in KINDS]
    numbers = {
        "RivalsTuningLeast": plain(min(ratios)),
        "RivalsTuningMost": plain(max(ratios)),
    }
    return table([["", *head, "run of the recipe", *over], *rows], "lrrrrr"), numbers


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """Standings by setting, paired comparisons, and profiles of the cost to a target."""
    first, strategies = next(iter(results.values())), everywhere(results)
    groups = _groups(
        list(dict.fromkeys(n for data in results.values() for n in names(data)))
    )
    pairs = [pair for group in groups.values() for pair in group.values()]
    found = {name: claims(data, pairs) for name, data in results.items()}
    table_of_all, texts = overview(results, strategies)
    tuning, numbers = _tuning(results)
    for name, text in texts.items():
        said = ("Lost", *_SAID.get(name, ()))
        numbers |= {f"Rivals{what}{camel(name)}": text[what] for what in said}
    for prefix, group in zip(("Cosine", "Constant", "Untuned", "Plain"), groups.values()):
        numbers |= counted(found, list(group.values()), f"Rivals{prefix}")
    numbers |= {
        "RivalsSeeds": str(first.sizes["seed"]),
        "RivalsSettings": ",".join(results),
        "RivalsProblems": str(len(results)),
        "RivalsFamily": str(max(map(len, found.values()))),
        "RivalsWay": percent(WAY),
        "RivalsWindows": str(WINDOWS),
    }
    return Findings(
        figures={
            "rivals-profiles": profiles(results, strategies, _SHOWN),
            "rivals-courses": courses(results, _SHOWN, "seconds"),
        },
        numbers=numbers,
        tables={
            "rivals-overview": table_of_all,
            "rivals-claims": claims_table(results, found, groups),
            "rivals-tuning": tuning,
            **{f"rivals-{name}": standing(data) for name, data in results.items()},
        },
    )


RIVALS = Question("rivals", "Untuned against tuned", ask, conclude)
