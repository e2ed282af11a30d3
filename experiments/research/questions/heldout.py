"""Held out: the recipe in hindsight on problems that it was not made on."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

import curvopt
from strategies import recipes

from .._bench import Bench
from .._families import COSINE, DIRECTIONS, RATES
from .._latex import percent, plain, table
from .._question import Findings, Question
from .._untuned import untuned
from .rivals import (
    averaged,
    FREE,
    HINDSIGHT,
    LAYERWISE,
    LAYERWISE_FREE,
    one_rate,
    without_horizon,
)


_WITH = ("Momentum", "Adam")

# The best learning rate of a grid, on the seeds on which it is judged here.
TUNED = "Adam, tuned cosine"

_FREE = {name: f"{name}, {FREE}" for name in _WITH}

# What the paper cites, by the names of its numbers.
_SAID = {
    TUNED: "Tuned",
    "AdamW, one rate": "OneRate",
    "Prodigy": "Prodigy",
    f"Momentum, {HINDSIGHT}": "Momentum",
    f"Adam, {HINDSIGHT}": "Adam",
    f"Adam, {LAYERWISE}": "Layerwise",
    averaged(_FREE["Momentum"]): "MomentumAveraged",
    averaged(_FREE["Adam"]): "AdamAveraged",
    LAYERWISE_FREE: "LayerwiseAveraged",
}


def _strategies(bench: Bench) -> dict[str, curvopt.LineSearchMinimiser]:
    return {
        **{
            f"{name}, {HINDSIGHT}": recipes.hindsight(DIRECTIONS[name], steps=bench.steps)
            for name in _WITH
        },
        f"Adam, {LAYERWISE}": recipes.layerwise(DIRECTIONS["Adam"], steps=bench.steps),
        **without_horizon(_WITH),
        "AdamW, one rate": one_rate(bench),
        "Prodigy": untuned(bench)["Prodigy"],
    }


def ask(bench: Bench) -> xr.Dataset:
    """Run the recipe, with and without a horizon, and the best untuned rivals on the tuning
    seeds; keeps the outcomes, with those of Adam's best rate under a cosine on the same
    seeds."""
    seeds = bench.tuning_seeds
    ours = bench.outcomes(bench.compare("heldout", _strategies(bench), seeds=seeds))
    tried = bench.outcomes(bench.rates("Adam", DIRECTIONS["Adam"], RATES["Adam"], [COSINE]))
    means = tried[bench.setting.metric].mean("seed").squeeze("strategy")
    best = tried.isel(learning_rate=int(means.argmin("learning_rate")), drop=True)
    return xr.concat([best.assign_coords(strategy=[TUNED]), ours], dim="strategy")


def _ends(data: xr.Dataset) -> xr.DataArray:
    return data[data.attrs["metric"]].astype(float).mean("seed")


def _lost(data: xr.Dataset) -> xr.DataArray:
    r"""The shortfall, $(L - L^*) / (L_0 - L^*)$, in the mean over seeds."""
    ends, start = _ends(data), float(data.start.astype(float).mean())
    return (ends - ends.min()) / (start - ends.min())


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """The final losses on each setting, and the mean shortfalls over all of them."""
    lost = {name: _lost(data) for name, data in results.items()}
    means = {s: float(np.mean([x.sel(strategy=s) for x in lost.values()])) for s in _SAID}
    rows = [["", "seeds", *_SAID]]
    for data in results.values():
        ends = _ends(data)
        cells = [plain(float(ends.sel(strategy=s)), 4) for s in _SAID]
        lowest = int(np.argmin([float(ends.sel(strategy=s)) for s in _SAID]))
        cells[lowest] = rf"\textbf{{{cells[lowest]}}}"
        rows.append([data.attrs["label"], str(data.sizes["seed"]), *cells])
    rows.append(["lost, mean", "", *(percent(means[s]) for s in _SAID)])
    numbers = {f"HeldoutLost{name}": percent(means[s]) for s, name in _SAID.items()}
    numbers["HeldoutSettings"] = str(len(results))
    return Findings({}, numbers, {"heldout": table(rows, "lr" + "r" * len(_SAID))})


HELDOUT = Question(
    "heldout",
    "Held out",
    ask,
    conclude,
    (
        "mlp-width-16",
        "mlp-width-256",
        "mlp-batch-32",
        "mlp-batch-512",
        "mlp-relu",
        "lenet-relu",
        "resnet",
        "transformer",
        "conv-autoencoder",
        "vit",
    ),
)
