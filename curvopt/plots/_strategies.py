"""The panel, the label and the seeds of each strategy."""

import json
from collections.abc import Iterable

import numpy as np
import xarray as xr

from .._runs import held, was_run
from ._style import Look, looks


Panel = tuple[str, list[tuple[str, str]]]


def panels_of(data: xr.Dataset) -> list[Panel]:
    """Panels, each with its strategies: `(title, [(strategy, label)])`. With coordinates
    `direction` and `line_search` there is a panel for each direction."""
    names = [str(name) for name in data.strategy.values]
    if "direction" not in data.coords or "line_search" not in data.coords:
        return [("", [(name, name) for name in names])]
    for name in ("direction", "line_search"):
        if not set(data[name].dims) <= {"strategy"}:
            raise ValueError(
                f"the coordinate {name!r} must have the dimension strategy, but it has "
                f"{data[name].dims}. Assign it: `data.assign_coords({name}=('strategy', "
                "[...]))`."
            )
    # `xarray.concat` reduces a coordinate that all strategies share to one value.
    directions, rules = (
        np.broadcast_to(data[name].values, len(names))
        for name in ("direction", "line_search")
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for name, direction, rule in zip(names, directions, rules):
        found.setdefault(str(direction), []).append((name, str(rule)))
    return list(found.items())


def labels_of(panels: list[Panel]) -> list[str]:
    """The labels of all panels, each once, in their order."""
    return list(dict.fromkeys(label for _, members in panels for _, label in members))


def knobs(data: xr.Dataset, name: str) -> list[str]:
    """The dimensions of a variable that are hyper-parameters."""
    known = ("strategy", "seed", "step", "evaluation_step")
    return [str(dim) for dim in data[name].dims if dim not in known]


def looks_of(labels: Iterable[str], datasets: Iterable[xr.Dataset]) -> dict[str, Look]:
    """A look for each label, the same in all figures of the studies, whichever strategies
    are drawn."""
    labels, names = list(labels), _all_strategies(datasets)
    return looks(labels, names if set(labels) <= set(names) else ())


def _all_strategies(datasets: Iterable[xr.Dataset]) -> list[str]:
    """All strategies of the studies, even those that are not in the datasets."""
    found: list[str] = []
    for data in datasets:
        try:
            found += json.loads(data.attrs.get("strategies", "{}"))
        except (TypeError, ValueError):  # an attribute that is not ours
            pass
        found += map(str, data.strategy.values)
    return found


def runs_of(data: xr.Dataset) -> dict[str, xr.Dataset]:
    """The runs of each strategy, from its own seeds: in joined studies others may have
    more. A run that was stopped keeps its last values."""
    ran, data = was_run(data), held(data)
    return {
        str(name): data.sel(strategy=name).isel(seed=ran.sel(strategy=name).values)
        for name in data.strategy.values
    }
