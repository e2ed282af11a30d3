import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr

from curvopt.plots import COLOURS, STYLE

from ._profile import cost_ratios, performance_profile


def figure(data: xr.Dataset) -> matplotlib.figure.Figure:
    """The performance profile: our solvers solid, the others dashed. At 1 a line begins
    at the fraction of problems on which its solver is the cheapest, and it ends at the
    fraction that it solves at all."""
    costs = data.cost_to_target.values
    ratios = cost_ratios(costs)
    largest = np.max(ratios, initial=2.0, where=np.isfinite(ratios))
    # A step in every place where one of the lines has one.
    steps = np.unique(ratios[np.isfinite(ratios)])
    factors = np.unique(np.concatenate([[1.0], steps, [1.05 * largest]]))
    with matplotlib.style.context(STYLE):
        result = matplotlib.figure.Figure(figsize=(7.0, 4.2), layout="constrained")
        ax = result.subplots()
        for k, fractions in enumerate(performance_profile(costs, factors)):
            ax.step(
                factors,
                fractions,
                where="post",
                color=COLOURS[k % len(COLOURS)],
                linestyle="-" if data.ours.values[k] else "--",
                label=data.label.values[k],
            )
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        ax.set_xlim(1, 1.05 * largest)
        ax.set_ylim(0, 1.02)
        ax.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        ax.set_xlabel(r"factor $\alpha$ over the cheapest solver's cost")
        ax.set_ylabel(f"of {data.sizes['problem']} problems, solved within")
        result.legend(loc="outside right center", frameon=False)
    return result
