r"""Edges: the edge of stability in $\ell$ on a quadratic, and the height of the noise
floor, measured and predicted by the theory."""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.style
import numpy as np
import xarray as xr
from jaxtyping import Scalar
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import curvopt
from curvopt import plots
from strategies import Momentum

from ...problems import NoisyQuadratic
from .._bench import Bench
from .._families import Family, rescaled
from .._heavy_ball import Along, HeavyBall
from .._latex import percent, plain, table
from .._question import Findings, Question
from .._style import TEXT_WIDTH
from .._tracked import Tracked


# Values of ell, in units of the predicted edge.
_SHARES = (
    *(1 / 16, 1 / 8, 1 / 4, 1 / 2, 0.7, 0.8, 0.9, 0.95, 0.98),
    *(1.02, 1.05, 1.1, 1.2, 1.4),
)

# Decays of the exponential averages: long ones, as the theory assumes, and short ones.
_LONG, _SHORT = 0.99, 0.9

# A loss above this many times the initial one counts as unbounded.
_BOUND = 1e6

NORMALISED, CLASSICAL = "normalised", "classical"


@dataclasses.dataclass(frozen=True)
class Case:
    """A form of heavy ball, measured along one line with one average."""

    decay: float
    form: str
    along: Along
    average: float

    @property
    def name(self) -> str:
        return f"{self.decay:g}, {self.form}, {self.along}, {self.average:g}"

    @property
    def theory(self) -> HeavyBall:
        weight = 1.0 if self.form == CLASSICAL else 1 - self.decay
        return HeavyBall(self.decay, weight, self.along)

    @property
    def family(self) -> Family:
        """The strategy as a function of `share`, which is ell over the predicted edge."""
        dampening = 0.0 if self.form == CLASSICAL else None
        at = rescaled(
            Momentum(self.decay, dampening),
            None,
            limited=False,
            along=self.along,
            average=self.average,
            ascent="signed",
        )

        def solver(share: Scalar) -> curvopt.LineSearchMinimiser:
            return at(ell=share * self.theory.edge)

        return solver


def _cases() -> list[Case]:
    # Without memory neither form nor line makes a difference.
    found = [Case(0.0, NORMALISED, "direction", average) for average in (_LONG, _SHORT)]
    for decay in (0.5, 0.9):
        for along in ("direction", "fresh"):
            found.append(Case(decay, NORMALISED, along, _LONG))
            found.append(Case(decay, CLASSICAL, along, _LONG))
            found.append(Case(decay, NORMALISED, along, _SHORT))
    return found


CASES = _cases()


def _measured(bench: Bench, study: str) -> xr.Dataset:
    """Whether the loss stays bounded, its mean over the second half of the run, and the
    fraction of steps with a positive slope."""
    families = {case.name: case.family for case in CASES}
    data = bench.sweep(study, families, {"share": _SHARES})
    loss = data[bench.setting.metric]
    start = loss.isel(evaluation_step=0)
    bounded = (loss < _BOUND * start).all("evaluation_step") & (data.diverged_at < 0)
    late = loss.isel(evaluation_step=slice(loss.sizes["evaluation_step"] // 2, None))
    return xr.Dataset(
        {
            "bounded": bounded,
            "loss": late.where(bounded).mean("evaluation_step").astype(np.float32),
            "ascent": data.guard_ascent.mean(["step", "seed"]).astype(np.float32),
        }
    )


def ask(bench: Bench) -> xr.Dataset:
    r"""Run both forms of heavy ball at values of $\ell$ around the predicted edge, with and
    without noise."""
    tracked = bench.problem
    assert isinstance(tracked, Tracked) and isinstance(tracked.problem, NoisyQuadratic)
    still = eqx.tree_at(lambda p: p.problem.deviations, tracked, replace_fn=jnp.zeros_like)
    silent = _measured(dataclasses.replace(bench, problem=still), "edges-still")
    out = _measured(bench, "edges").assign(bounded_still=silent.bounded)
    return out.assign(
        eigenvalues=("mode", np.asarray(tracked.problem.eigenvalues, float)),
        noise=("mode", np.asarray(tracked.problem.deviations, float) ** 2),
    )


@dataclasses.dataclass(frozen=True)
class Found:
    r"""The results of a case.

    **Attributes:**

    - `case`: the case.
    - `ell`: the values of $\ell$.
    - `loss`: the mean loss at each; nan if it is not bounded.
    - `predicted`: the theory's loss; nan from the edge on.
    - `edge`, `edge_still`: the largest $\ell$ up to which the loss stays bounded on all
        seeds, and the smallest from which on it does on none; with and without noise.
    - `unit`: the unit of losses, $\mathrm{tr} S / (2 \bar\lambda)$.
    """

    case: Case
    ell: np.ndarray
    loss: np.ndarray
    predicted: np.ndarray
    edge: tuple[float, float]
    edge_still: tuple[float, float]
    unit: float

    @property
    def errors(self) -> np.ndarray:
        """The relative error of the theory, where it makes a prediction."""
        both = np.isfinite(self.loss) & np.isfinite(self.predicted)
        return self.loss[both] / self.predicted[both] - 1


def _edge(ell: np.ndarray, bounded: xr.DataArray) -> tuple[float, float]:
    within = np.logical_and.accumulate(bounded.all("seed").values)
    beyond = np.logical_and.accumulate(~bounded.any("seed").values[::-1])[::-1]
    return float(max(ell[within], default=0.0)), float(min(ell[beyond], default=np.inf))


def found(case: Case, data: xr.Dataset) -> Found:
    """The results of a case, with the theory's prediction."""
    own, theory = data.sel(strategy=case.name), case.theory
    ell = own.share.values * theory.edge
    values, noise = data.eigenvalues.values, data.noise.values
    predicted = [
        theory.floor(float(x), values, noise) if x < theory.edge else np.nan for x in ell
    ]
    return Found(
        case,
        ell,
        own.loss.mean("seed", skipna=False).values,
        np.array(predicted),
        _edge(ell, own.bounded),
        _edge(ell, own.bounded_still),
        float(noise.sum() ** 2 / (2 * values @ noise)),
    )


# The height of the figure, in inches.
_HEIGHT = 2.4

# The line and the form of momentum of each panel. Without memory neither matters; along the
# direction both forms give the same.
_PANELS: dict[str, tuple[Along, str]] = {
    "along the direction": ("direction", NORMALISED),
    "fresh part, normalised": ("fresh", NORMALISED),
    "fresh part, classical": ("fresh", CLASSICAL),
}

_LOOKS = {0.0: ("o", "-"), 0.5: ("s", (0, (5, 1.5))), 0.9: ("^", (0, (1, 1.2)))}


def _of_panel(case: Case, title: str) -> bool:
    here = (case.along, case.form) == _PANELS[title]
    return case.average == _LONG and (case.decay == 0 or here)


def _draw(ax: Axes, result: Found, row: int) -> None:
    """The theory's line and edge, the measured losses, and crosses where the loss is not
    bounded."""
    marker, line = _LOOKS[result.case.decay]
    colour = plots.COLOURS[row]
    ax.plot(
        result.ell,
        result.predicted / result.unit,
        color=colour,
        linestyle=line,
        linewidth=1.0,
    )
    ax.axvline(result.case.theory.edge, color=colour, linestyle=line, linewidth=0.7)
    ax.plot(result.ell, result.loss / result.unit, marker, color=colour, markersize=3.2)
    gone = result.ell[np.isnan(result.loss)]
    height, across = np.full(gone.shape, 0.97 - 0.055 * row), ax.get_xaxis_transform()
    ax.plot(gone, height, "x", color=colour, markersize=3, transform=across)


def _handles() -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, linestyle=line, marker=marker, markersize=3.2)
        for colour, (marker, line) in zip(plots.COLOURS, _LOOKS.values())
    ]
    for handle, decay in zip(handles, _LOOKS):
        handle.set_label(rf"$\beta$ = {decay:g}")
    cross = Line2D([], [], color="#444444", linestyle="", marker="x", markersize=3)
    cross.set_label("not bounded")
    edge = Line2D([], [], color="#444444", linewidth=0.7, label="predicted edge")
    return [*handles, edge, cross]


def _figure(all_found: list[Found]) -> matplotlib.figure.Figure:
    with matplotlib.style.context(plots.STYLE):
        figure = matplotlib.figure.Figure((TEXT_WIDTH, _HEIGHT), layout="constrained")
        axes = figure.subplots(1, len(_PANELS), sharex=True, sharey=True)
        for ax, title in zip(axes, _PANELS):
            for result in all_found:
                if _of_panel(result.case, title):
                    _draw(ax, result, list(_LOOKS).index(result.case.decay))
            ax.set_title(title)
            ax.set_xlabel(r"$\ell$")
        axes[0].set_xscale("log")
        axes[0].set_yscale("log")
        # Room for the crosses.
        axes[0].set_ylim(top=30 * axes[0].get_ylim()[1])
        axes[0].set_ylabel(r"loss / $(\mathrm{tr}\,S\,/\,2\bar\lambda)$")
        figure.legend(handles=_handles(), loc="outside upper center", ncols=5)
    return figure


def _between(edge: tuple[float, float]) -> str:
    return f"{plain(edge[0], 3)} to {plain(edge[1], 3)}"


def _mean_error(result: Found) -> str:
    return percent(float(np.abs(result.errors).mean())) if result.errors.size else "--"


def _table(all_found: list[Found]) -> str:
    header = [
        "measured along",
        "form",
        r"$\beta$",
        "average",
        "edge",
        "with noise",
        "without",
        "floor",
    ]
    rows = [
        [
            "the fresh part" if result.case.along == "fresh" else "the direction",
            result.case.form if result.case.decay else "--",
            f"{result.case.decay:g}",
            f"{result.case.average:g}",
            plain(result.case.theory.edge, 3),
            _between(result.edge),
            _between(result.edge_still),
            _mean_error(result),
        ]
        for result in sorted(all_found, key=lambda result: -result.case.average)
    ]
    return table([header, *rows], "llrrrllr")


def _edges(
    name: str, edges: list[tuple[float, float]], units: list[float]
) -> dict[str, str]:
    """The range of the measured edges, in units of the predicted ones."""
    lower = min(low / unit for (low, _), unit in zip(edges, units))
    upper = max(high / unit for (_, high), unit in zip(edges, units))
    return {f"Edges{name}Lower": plain(lower, 3), f"Edges{name}Upper": plain(upper, 3)}


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """The theory's lines with the measurements, and their relative errors."""
    (data,) = results.values()
    all_found = [found(case, data) for case in CASES]
    numbers = {
        "EdgesSteps": data.attrs["steps"],
        "EdgesSeeds": str(data.sizes["seed"]),
        "EdgesModes": str(data.sizes["mode"]),
        "EdgesCondition": plain(float(data.eigenvalues.max() / data.eigenvalues.min())),
        "EdgesLong": f"{_LONG:g}",
        "EdgesShort": f"{_SHORT:g}",
        "EdgesBound": rf"\ensuremath{{10^{{{np.log10(_BOUND):.0f}}}}}",
        "EdgesAscent": percent(float(data.ascent.max())),
    }
    for name, average in (("Long", _LONG), ("Short", _SHORT)):
        here = [x for x in all_found if x.case.average == average]
        units = [x.case.theory.edge for x in here]
        numbers |= _edges(name, [x.edge for x in here], units)
        numbers |= _edges(f"{name}Still", [x.edge_still for x in here], units)
        errors = np.abs(np.concatenate([x.errors for x in here]))
        numbers[f"Edges{name}Error"] = percent(float(np.mean(errors)))
        numbers[f"Edges{name}Worst"] = percent(float(np.max(errors)))
    return Findings({"edges": _figure(all_found)}, numbers, {"edges": _table(all_found)})


EDGES = Question(
    "edges", "Theory and measurement on a quadratic", ask, conclude, ("quadratic",)
)
