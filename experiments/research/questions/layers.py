"""Layers: a step size for each of them, against one for all."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr
from jaxtyping import Array, PyTree

import curvopt
from curvopt.plots import STYLE
from strategies import recipes

from .._bench import Bench
from .._by_hand import observed
from .._claims import claims, claims_table, counted
from .._families import DIRECTIONS
from .._latex import percent, plain, table
from .._question import Findings, Question
from .._standings import final, label
from .._style import legend, look


ONE, LAYERS = "one step size", "by layer"
WHOLE, DIAGONAL = f"{LAYERS}, whole batch", f"{LAYERS}, diagonal"

# The windows of steps over which the step sizes of the layers are averaged.
_WINDOWS = 50

_DIRECTION = "Adam"


class DiagonalCurvature(curvopt.AbstractCurvatureMethod):
    """Another curvature method, without the cross terms of its matrices."""

    curvature: curvopt.AbstractCurvatureMethod

    def model(self, fn: Any, y: PyTree[Array], args: PyTree) -> curvopt.QuadraticModel:
        whole = self.curvature.model(fn, y, args)
        return curvopt.QuadraticModel.of_loss(
            fn,
            y,
            args,
            curvature=whole.curvature,
            curvature_matrix=lambda us: jnp.diag(jnp.diag(whole.curvature_matrix(us))),
            report=whole.report,
        )


def _strategies(bench: Bench) -> dict[str, curvopt.LineSearchMinimiser]:
    direction, steps = DIRECTIONS[_DIRECTION], bench.steps
    part = curvopt.SubsampledCurvature(1 / 16)
    layerwise = lambda curvature: recipes.layerwise(
        direction, steps=steps, curvature=curvature
    )
    return {
        ONE: recipes.hindsight(direction, steps=steps, curvature=part),
        LAYERS: layerwise(part),
        WHOLE: layerwise(curvopt.AdjointCurvature()),
        DIAGONAL: layerwise(DiagonalCurvature(part)),
    }


def _course(bench: Bench, solver: curvopt.LineSearchMinimiser) -> xr.Dataset:
    """The step size of each layer along one run, and the share of the cross terms in its
    curvature, as means over windows of steps."""

    def observe(_: PyTree[Array], state: Any) -> tuple[Array, Array]:
        sizes = state.direction.last
        terms = jnp.abs(state.direction.curvature) * jnp.outer(sizes, sizes)
        share = curvopt.safe_divide(jnp.sum(terms) - jnp.trace(terms), jnp.sum(terms))
        return sizes, share

    (sizes, shares), _ = observed(bench, solver, observe, bench.tuning_seeds[0])
    found = xr.Dataset({"size": (("step", "layer"), sizes), "cross": ("step", shares)})
    size = max(1, bench.steps // _WINDOWS)
    return found.coarsen(step=size, boundary="trim").mean().rename(step="window")


def ask(bench: Bench) -> xr.Dataset:
    """Run the recipe with one step size and with one for each layer, with all of the
    curvature matrix and with its diagonal, on the reported seeds."""
    strategies = _strategies(bench)
    out = bench.outcomes(bench.compare("layers", strategies))
    return out.merge(_course(bench, strategies[LAYERS]))


def _sizes(results: Mapping[str, xr.Dataset]) -> matplotlib.figure.Figure:
    """The step size of each layer along a run, in panels by setting."""
    several = [data for data in results.values() if data.sizes["layer"] > 1]
    with matplotlib.style.context(STYLE):
        figure = matplotlib.figure.Figure(figsize=(6.0, 2.0), layout="constrained")
        axes = figure.subplots(1, len(several), squeeze=False)[0]
        for ax, data in zip(axes, several):
            steps = (data.window + 1) * (int(data.attrs["steps"]) / data.sizes["window"])
            for k in range(data.sizes["layer"]):
                style = {**look(k), "markevery": (2 + 2 * k, 16)}
                ax.plot(steps, data["size"][:, k], label=f"layer {k + 1}", **style)
            ax.set_yscale("log")
            ax.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            ax.set_title(label(data))
        figure.supxlabel("steps", fontsize=8)
        figure.supylabel("step size", fontsize=8)
        legend(figure, axes)
    return figure


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """The final losses, the comparisons, and the courses of the step sizes."""
    groups = {
        "a step size for each layer against one": {LAYERS: (LAYERS, ONE)},
        "against a step size for each layer": {
            "with the whole batch": (WHOLE, LAYERS),
            "without the cross terms": (DIAGONAL, LAYERS),
        },
    }
    pairs = [pair for group in groups.values() for pair in group.values()]
    found = {name: claims(data, pairs) for name, data in results.items()}
    rows = [["", "layers", ONE, LAYERS, WHOLE, DIAGONAL, "cross terms", "spread"]]
    shares, spreads = [], []
    for data in results.values():
        ends = final(data).mean("seed")
        losses = [float(ends.sel(strategy=s)) for s in (ONE, LAYERS, WHOLE, DIAGONAL)]
        cells = [plain(x, 4) for x in losses]
        cells[int(np.argmin(losses))] = rf"\textbf{{{cells[int(np.argmin(losses))]}}}"
        share, size = float(data.cross.mean()), data["size"].isel(window=-1)
        spread = float(size.max() / size.min())
        more = ["--", "--"]
        if data.sizes["layer"] > 1:
            shares, spreads = [*shares, share], [*spreads, spread]
            more = [percent(share), plain(spread, 2)]
        rows.append([label(data), str(data.sizes["layer"]), *cells, *more])
    first = next(iter(results.values()))
    numbers = {
        "LayersSeeds": str(first.sizes["seed"]),
        "LayersCrossLeast": percent(min(shares)),
        "LayersCrossMost": percent(max(shares)),
        "LayersSpreadLeast": plain(min(spreads), 2),
        "LayersSpreadMost": plain(max(spreads), 2),
        **counted(found, [(LAYERS, ONE)], "LayersOne"),
        **counted(found, [(WHOLE, LAYERS)], "LayersWhole"),
        **counted(found, [(DIAGONAL, LAYERS)], "LayersDiagonal"),
    }
    return Findings(
        figures={"layers-sizes": _sizes(results)},
        numbers=numbers,
        tables={
            "layers": table(rows, "lr" + "r" * 6),
            "layers-claims": claims_table(results, found, groups),
        },
    )


LAYERWISE = Question("layers", "A step size for each layer", ask, conclude)
