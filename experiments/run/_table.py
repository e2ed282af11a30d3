"""What the strategies of a study came to, for whatever metrics its problem has."""

import numpy as np
import xarray as xr

import curvopt
from curvopt.statistics import bca_interval

from .._markdown import markdown


def metrics_of(data: xr.Dataset, first: str) -> list[str]:
    """The problem's metrics, that one first which is judged."""
    names = [str(k) for k, v in data.items() if "evaluation_step" in v.dims]
    return sorted(names, key=lambda name: name != first)


def label(data: xr.Dataset, name: str) -> str:
    """A variable in words."""
    return data[name].attrs.get("long_name", name.replace("_", " "))


def _interval(x: np.ndarray) -> str:
    """The mean of the seeds and its BCa interval, as far as there are any."""
    if not np.isfinite(x).all():
        return "not finite"
    low, high = bca_interval(x)
    mean = f"{x.mean():.4g}"
    if not np.isfinite([low, high]).all():
        return mean
    return f"{mean} [{low:.4g}, {high:.4g}]"


def _value(x: float) -> str:
    """A hyper-parameter, or a dash where a strategy has none."""
    return f"{x:.4g}" if np.isfinite(x) else "–"


def table(data: xr.Dataset, metric: str) -> str:
    """A row for each strategy, as a Markdown table that reads well as text too.

    **Arguments:**

    - `data`: of [`curvopt.run_study`][], without hyper-parameters.
    - `metric`: the one that is judged.
    """
    metrics = metrics_of(data, metric)
    knobs = [str(k) for k, v in data.coords.items() if v.dims == ("strategy",)]
    knobs.remove("strategy")
    final = {name: curvopt.final_metric(data, name) for name in metrics}
    header = [
        "strategy",
        *(label(data, knob) for knob in knobs),
        *(f"final {label(data, name)}" for name in metrics),
        "gradient-equivalents",
        "seconds",
        "diverged",
    ]
    rows = [header]
    for name in data.strategy.values:
        one = data.sel(strategy=name)
        spent = float(one.gradient_equivalents.isel(step=-1).mean("seed"))
        diverged = int((one.diverged_at >= 0).sum())
        rows.append(
            [
                str(name),
                *(_value(float(one[knob])) for knob in knobs),
                *(_interval(final[m].sel(strategy=name).values) for m in metrics),
                f"{spent:,.0f}",
                f"{float(one.seconds):.1f}",
                f"{diverged} of {data.sizes['seed']}",
            ]
        )
    return markdown(rows)
