"""Which strategy is drawn in which panel, by which label."""

import xarray as xr


Panel = tuple[str, list[tuple[str, str]]]


def panels_of(data: xr.Dataset) -> list[Panel]:
    """Panels, each with its strategies: `(title, [(strategy, label)])`. Those whose
    coordinates are direction and line search have a panel for each direction."""
    names = [str(name) for name in data.strategy.values]
    if "direction" not in data.coords or "line_search" not in data.coords:
        return [("", [(name, name) for name in names])]
    found: dict[str, list[tuple[str, str]]] = {}
    for name, direction, rule in zip(names, data.direction.values, data.line_search.values):
        found.setdefault(str(direction), []).append((name, str(rule)))
    return list(found.items())


def labels_of(panels: list[Panel]) -> list[str]:
    """The labels of all panels, each once, in their order."""
    return list(dict.fromkeys(label for _, members in panels for _, label in members))


def knobs(data: xr.Dataset, name: str) -> list[str]:
    """The dimensions of a variable that are hyper-parameters."""
    known = ("strategy", "seed", "step", "evaluation_step")
    return [str(dim) for dim in data[name].dims if dim not in known]


def check_no_knobs(data: xr.Dataset, name: str) -> None:
    """Refuse a grid where single runs are to be drawn."""
    found = knobs(data, name)
    if found:
        choice = ", ".join(f"{dim}=..." for dim in found)
        raise ValueError(
            f"{name!r} must have no dimensions but strategy, seed and time, but it has "
            f"{', '.join(found)} too. Select first: `data.sel({choice})`."
        )
