r"""The recipe: the average and the first $\ell$ that suit all directions and settings."""

from collections.abc import Mapping

import matplotlib.figure
import matplotlib.style
import numpy as np
import xarray as xr

from curvopt import plots

from .._bench import Bench
from .._families import COSINE, DIRECTIONS, RATES, rescaled
from .._latex import percent, plain, table
from .._question import Findings, Question
from .._style import TEXT_WIDTH


# Around the best values that the question of memory found, in factors of sqrt(2).
_SCALES = [1.0, 1.4, 2.0, 2.8]
_AVERAGES = [0.9, 0.97, 0.99]

_MARKERS = ("o", "s", "^")
_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)))


def ask(bench: Bench) -> xr.Dataset:
    r"""Run all directions, measured along the fresh part, under a cosine, at all pairs of a
    first $\ell$ and an average; keeps the lowest loss at any raw rate too."""
    cosine = bench.schedule(COSINE)
    families = {
        name: rescaled(which, cosine, along="fresh") for name, which in DIRECTIONS.items()
    }
    grid = {"ell": _SCALES, "average": _AVERAGES}
    out = bench.outcomes(bench.sweep("recipe", families, grid))
    tuned = []
    for name, which in DIRECTIONS.items():
        tried = bench.outcomes(bench.rates(name, which, RATES[name]).sel(strategy=COSINE))
        tuned.append(tried[bench.setting.metric].mean("seed").min("learning_rate"))
    out["tuned"] = xr.concat(tuned, dim="strategy").drop_vars("strategy")
    return out.rename(strategy="direction")


def _excess(data: xr.Dataset) -> xr.DataArray:
    r"""The share of the tuned rate's progress that is missed,
    $(L - L_{tuned}) / (L_0 - L_{tuned})$; negative if the tuned rate is beaten, at most
    1."""
    loss, start = data[data.attrs["metric"]].mean("seed"), float(data.start.mean())
    return ((loss - data.tuned) / (start - data.tuned)).clip(max=1.0)


def _figure(excess: xr.DataArray) -> matplotlib.figure.Figure:
    """Means over settings, with a panel for each direction."""
    with matplotlib.style.context(plots.STYLE):
        figure = matplotlib.figure.Figure((TEXT_WIDTH, 2.1), layout="constrained")
        panels = figure.subplots(1, excess.sizes["direction"], sharey=True, squeeze=False)
        for ax, direction in zip(panels[0], excess.direction.values):
            for k, average in enumerate(excess.average.values):
                ax.plot(
                    excess.ell,
                    100 * excess.sel(direction=direction, average=average).mean("setting"),
                    color=plots.COLOURS[k],
                    marker=_MARKERS[k],
                    linestyle=_LINES[k],
                    label=f"average {average:g}",
                )
            ax.axhline(0, color="0.4", linewidth=0.8, label="the tuned rate")
            ax.set(title=direction, xlabel=r"first $\ell$", xscale="log")
            ax.set_xticks(excess.ell.values, [f"{x:g}" for x in excess.ell.values])
            ax.minorticks_off()
        panels[0, 0].set_yscale("symlog", linthresh=1)
        panels[0, 0].set_ylabel("% of the tuned\nway missed")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """The mean and the worst share that each pair misses over all directions and settings,
    and the pair with the lowest mean."""
    excess = xr.concat(
        [_excess(data) for data in results.values()],
        dim="setting",
        join="inner",
        coords="minimal",
        compat="override",
    )
    over = ["setting", "direction"]
    mean, worst = excess.mean(over), excess.max(over)
    flat = mean.stack(pair=["ell", "average"])
    best = flat[int(flat.argmin("pair"))]
    chosen = excess.sel(ell=float(best.ell), average=float(best.average))
    rows = [["average", *(rf"$\ell = {x:g}$" for x in mean.ell.values)]]
    for average in mean.average.values:
        row = lambda x, average=average: x.sel(average=average).values.tolist()
        pairs = zip(row(mean), row(worst))
        rows.append([f"{average:g}", *(f"{percent(m)} ({percent(w)})" for m, w in pairs)])
    directions = {
        f"RecipeMissed{name}": percent(float(chosen.sel(direction=name).mean()))
        for name in chosen.direction.values
    }
    numbers = {
        "RecipeSettings": str(len(results)),
        "RecipeScale": plain(float(best.ell)),
        "RecipeAverage": f"{float(best.average):g}",
        "RecipeMissed": percent(float(best)),
        "RecipeMissedWorst": percent(float(chosen.max())),
        "RecipeBeaten": str(int(np.sum(chosen.values < 0))),
        "RecipeCases": str(chosen.size),
        **directions,
    }
    columns = "l" + "r" * mean.sizes["ell"]
    return Findings({"recipe": _figure(excess)}, numbers, {"recipe": table(rows, columns)})


RECIPE = Question("recipe", "The recipe", ask, conclude)
