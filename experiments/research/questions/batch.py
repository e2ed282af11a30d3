r"""Batch size and averages: the best $\ell$ and the best average from small batches to the
full batch, and whether the greedy step loses there."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from curvopt.plots import STYLE
from strategies import SGD

from ...data import load_subset
from ...problems import MLPClassifier
from .._bench import Bench
from .._choice import at_edge, best_value, good_values, shortfall
from .._families import CONSTANT, RATES, raw, rescaled, SCALES
from .._latex import percent, plain, table
from .._question import Findings, Question
from .._style import legend, look, TEXT_WIDTH
from .._tracked import Tracked


AVERAGES = (0.0, 0.9, 0.99)

_STEPS = 600


def _sizes(bench: Bench, everything: int) -> tuple[int, ...]:
    return (16, 64) if bench.quick else (16, 64, 256, 1024, everything)


def _of_size(bench: Bench, problem: MLPClassifier, size: int) -> xr.Dataset:
    """The outcomes of SGD with batches of this size, raw and rescaled."""
    bench = dataclasses.replace(
        bench, problem=Tracked(problem), folder=bench.folder / f"batch-{size}"
    )
    families = {
        f"{average}": rescaled(SGD(), None, average=average) for average in AVERAGES
    }
    scaled = bench.outcomes(bench.sweep("scales", families, {"ell": SCALES}, _STEPS))
    rates = {"learning_rate": RATES["SGD"]}
    tried = bench.sweep("rates", {CONSTANT: raw(SGD(), None)}, rates, _STEPS)
    best = bench.outcomes(tried).squeeze("strategy", drop=True)
    return xr.merge(
        [
            scaled.rename(strategy="average"),
            best.rename({name: f"raw_{name}" for name in best}),
        ],
        join="exact",
    )


def ask(bench: Bench) -> xr.Dataset:
    r"""Run SGD on the network of the main comparison with several batch sizes, at all
    values of $\ell$ without and with averages, and at all raw learning rates."""
    images = load_subset()
    sizes = _sizes(bench, len(images.train_images))
    parts = [_of_size(bench, MLPClassifier(images, batch_size=n), n) for n in sizes]
    data = xr.concat(parts, dim="batch_size", join="exact")
    return data.assign_coords(batch_size=list(sizes)).assign_attrs(
        images=len(images.train_images), run_steps=min(_STEPS, bench.steps)
    )


# A value with a shortfall of at most this is a good one.
_WITHIN = 0.05

GREEDY, EDGE = 0.5, 1.0

# Averages in the names of the paper's numbers, and their labels in figure and table.
_WORDS = {"0.0": "Bare", "0.9": "Short"}
_CALLED = {"0.0": "no averages", "0.9": "averages, 0.9", "0.99": "averages, 0.99"}


@dataclasses.dataclass(frozen=True)
class Tried:
    """The results at one batch size.

    **Attributes:**

    - `loss`: the final loss by average, `ell` and seed.
    - `lost`: the shortfall against the best of all pairs, by average and `ell`.
    - `raw`, `raw_lost`: the same for raw rates, by `learning_rate`.
    """

    loss: xr.DataArray
    lost: xr.DataArray
    raw: xr.DataArray
    raw_lost: xr.DataArray

    @property
    def best(self) -> tuple[str, float]:
        r"""The best average, and the best $\ell$ with it."""
        means = self.lost.min("ell")
        average = str(means.average.values[int(means.argmin("average"))])
        return average, self.best_with(average)

    def best_with(self, average: str) -> float:
        return best_value(self.lost.sel(average=average), "ell")

    @property
    def best_rate(self) -> float:
        return best_value(self.raw_lost, "learning_rate")

    def at(self, average: str, ell: float) -> np.ndarray:
        """The final loss of each seed; nan if the value was not tried."""
        return self.loss.sel(average=average).reindex(ell=[ell]).isel(ell=0).values

    def loss_at(self, average: str, ell: float) -> float:
        return float(self.at(average, ell).mean())

    @property
    def raw_loss(self) -> float:
        return float(self.raw.sel(learning_rate=self.best_rate).mean())


def tried(data: xr.Dataset) -> dict[int, Tried]:
    """The results by batch size."""
    metric, out = data.attrs["metric"], {}
    for size in data.batch_size.values.tolist():
        own = data.sel(batch_size=size).astype(float)
        pairs = own[metric].stack(pair=("average", "ell"))
        lost = shortfall(pairs, own.start, "pair").unstack("pair")
        raw = own[f"raw_{metric}"]
        raw_lost = shortfall(raw, own.raw_start, "learning_rate")
        # Unstacking sorts the averages as texts: restore their order.
        averages = own.average.values
        out[size] = Tried(own[metric], lost.sel(average=averages), raw, raw_lost)
    return out


def _best(here: Tried, average: str) -> str:
    ell = here.best_with(average)
    return f"{plain(here.loss_at(average, ell), 3)} ({ell:g})"


def _table(sizes: Mapping[int, Tried]) -> str:
    """The final loss: greedy, on edge, and with the best values, given in brackets."""
    averages = list(_CALLED)
    head = ["batch", "greedy", "on edge", "best"]
    for average in averages[1:]:
        head += [f"on edge, {average}", f"best, {average}"]
    rows = [[*head, "best rate"]]
    for size, here in sizes.items():
        cells = [plain(here.loss_at(averages[0], GREEDY), 3)]
        for average in averages:
            cells += [plain(here.loss_at(average, EDGE), 3), _best(here, average)]
        rate = f"{plain(here.raw_loss, 3)} ({plain(here.best_rate, 1)})"
        rows.append([str(size), *cells, rate])
    return table(rows, "r" * len(rows[0]))


def _ends(sizes: Mapping[int, Tried]) -> dict[str, str]:
    """The best values with the smallest and the largest batches."""
    numbers = {}
    for name, size in (("Smallest", min(sizes)), ("Largest", max(sizes))):
        here = sizes[size]
        average, ell = here.best
        numbers |= {
            f"Batch{name}Ell": f"{ell:g}",
            f"Batch{name}Loss": plain(here.loss_at(average, ell), 3),
            f"Batch{name}Raw": plain(here.raw_loss, 3),
            f"Batch{name}Rate": plain(here.best_rate, 1),
        }
        for average, word in _WORDS.items():
            numbers[f"Batch{name}Ell{word}"] = f"{here.best_with(average):g}"
    return numbers


def _edge(largest: Tried) -> dict[str, str]:
    """Greedy, on edge and the best rate with the largest batches: the losses, and on how
    many seeds greedy ends above on edge, and on edge below the best rate."""
    rate = largest.raw.sel(learning_rate=largest.best_rate).values
    numbers = {}
    for average, word in _WORDS.items():
        numbers[f"BatchGreedy{word}"] = plain(largest.loss_at(average, GREEDY), 3)
        numbers[f"BatchEdge{word}"] = plain(largest.loss_at(average, EDGE), 3)
    greedy, edge = largest.at("0.0", GREEDY), largest.at("0.0", EDGE)
    return numbers | {
        "BatchGreedyLosesBare": str(int((greedy > edge).sum())),
        "BatchEdgeWinsBare": str(int((edge < rate).sum())),
    }


def _numbers(data: xr.Dataset, sizes: Mapping[int, Tried]) -> dict[str, str]:
    return {
        "BatchSmallest": str(min(sizes)),
        "BatchImages": f"{int(data.attrs['images']):,}".replace(",", r"\,"),
        "BatchSteps": str(int(data.attrs["run_steps"])),
        "BatchSeeds": str(data.sizes["seed"]),
        "BatchWithin": percent(_WITHIN, 1),
        **_ends(sizes),
        **_edge(sizes[max(sizes)]),
    }


def _draw_losses(ax: Axes, here: Tried) -> None:
    for k, (average, called) in enumerate(_CALLED.items()):
        mean = here.loss.sel(average=average).mean("seed")
        ax.plot(mean.ell, mean, label=called, **look(k))
    ax.axhline(here.raw_loss, color="black", linewidth=0.9, label="best raw rate")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(matplotlib.ticker.FixedLocator([0.125, 1, 8]))
    ax.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())


_BAR: dict[str, Any] = {"linewidth": 2.4, "alpha": 0.35}


def _explained(ax: Axes) -> None:
    """Legend entries for marks that are drawn in every colour."""
    ring = {"marker": "o", "markersize": 4, "markerfacecolor": "white"}
    ax.plot([], [], color=_GREY, label=f"at most {_WITHIN:.0%} lost", **_BAR)
    ax.plot([], [], color=_GREY, linestyle="", label="best is the last tried", **ring)


def _draw_best(
    ax: Axes, sizes: Mapping[int, xr.DataArray], value: str, k: int, beside: float = 1.0
) -> None:
    """The best value and the range of good values against the batch size; the factor
    `beside` keeps the ranges of several lines apart."""
    x = np.array(list(sizes)) * beside
    best = [best_value(lost, value) for lost in sizes.values()]
    style = look(k)
    ax.plot(x, best, **style)
    for at, lost in zip(x, sizes.values()):
        ax.plot([at, at], good_values(lost, value, _WITHIN), color=style["color"], **_BAR)
        if at_edge(lost, value):
            ring = style | {"markerfacecolor": "white", "markeredgecolor": style["color"]}
            ax.plot(at, best_value(lost, value), **ring)


_GREY = "#444444"

# The heights of the two rows of panels, in inches.
_ROWS = 1.75, 1.75


def _figure(sizes: Mapping[int, Tried]) -> matplotlib.figure.Figure:
    r"""Top: the final loss against $\ell$, with a panel for each batch size. Bottom: the
    best $\ell$ and the best raw rate against the batch size, hollow at a grid's edge."""
    with matplotlib.style.context(STYLE):
        figure = matplotlib.figure.Figure((TEXT_WIDTH, sum(_ROWS)), layout="constrained")
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=_ROWS)
        top, bottom = parts.flat
        above = top.subplots(1, len(sizes), squeeze=False, sharex=True, sharey=True)[0]
        for ax, (size, here) in zip(above, sizes.items()):
            _draw_losses(ax, here)
            ax.set_title(f"batch {size}")
            ax.set_xlabel(r"$\ell$")
        above[0].set_ylabel("final training loss")
        left, right = bottom.subplots(1, 2, sharex=True)
        for k, average in enumerate(_CALLED):
            lost = {size: here.lost.sel(average=average) for size, here in sizes.items()}
            _draw_best(left, lost, "ell", k, 1.12 ** (k - 1))
        raw = {size: here.raw_lost for size, here in sizes.items()}
        _draw_best(right, raw, "learning_rate", len(_CALLED))
        left.set_yscale("log", base=2)
        right.set_yscale("log")
        right.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 3)))
        for ax in (left, right):
            ax.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
            ax.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        for ax, name in ((left, r"best $\ell$"), (right, "best raw rate")):
            ax.set_xscale("log")
            ax.set_xticks(list(sizes), [str(size) for size in sizes])
            ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
            ax.set_xlabel("batch size")
            ax.set_ylabel(name)
        _explained(above[-1])
        legend(figure, above)
    return figure


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    r"""The best $\ell$, average and raw rate against the batch size, and greedy against on
    edge with the largest batches."""
    # The question is asked of one setting.
    (data,) = results.values()
    sizes = tried(data)
    return Findings(
        {"batch": _figure(sizes)}, _numbers(data, sizes), {"batch": _table(sizes)}
    )


BATCH = Question("batch", "Batch size and averages", ask, conclude, ("mlp",))
