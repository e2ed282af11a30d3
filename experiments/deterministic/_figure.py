import matplotlib.figure
import xarray as xr

from curvopt import plots


def figure(data: xr.Dataset) -> matplotlib.figure.Figure:
    """The performance profile: our solvers solid, the others dashed."""
    return plots.performance_profile(
        data.cost_to_target.values,
        data.label.values.tolist(),
        dashed=(~data.ours.values).tolist(),
    )
