import json
from collections.abc import Iterator

import xarray as xr

from .._formatting import items
from ._table import costs_table, duels_table, failures, summary_table


def unusable(data: xr.Dataset) -> list[str]:
    """The problems that could not be started on, with the reasons."""
    reasons = json.loads(data.attrs["unusable"])
    return [f"{name}: {reason}" for name, reason in reasons.items()]


def _sections(data: xr.Dataset) -> Iterator[str]:
    yield "# Our solvers compared with Optimistix's, on deterministic problems"
    yield f"Made by\n\n```\n{data.attrs['command']}\n```"
    yield (
        f"{data.sizes['problem']} problems in float64, each from its one start. A problem "
        f"is solved at the first point with f <= f_L + {data.attrs['tolerance']:g} "
        "(f(y0) - f_L), where f_L is the lowest value that any of these solvers found, or "
        "the minimum where it is known and lower (Moré & Wild 2009); so a local minimum "
        "above another solver's does not count. Cost is in gradient-equivalents (C): one "
        "value-and-gradient is 1, a loss and a curvature are priced by XLA's FLOPs on the "
        "same problem; it does not count transcendental functions. An accepted trial of "
        "ours is paid twice, as a loss and then with its gradient; the cost at a point "
        "has its gradient in it."
    )
    yield (
        "![Performance profile: the share of problems that a solver solves within a factor "
        "of the cheapest solver's cost; ours solid, Optimistix's dashed]"
        "(figures/profile.png)"
    )
    yield "## Summary"
    yield summary_table(data)
    yield (
        "Evaluations are counted up to the target. Medians are over all problems; one that "
        "a solver missed is infinite to it. Time is of each whole run, once, without "
        "compilation, over its cost."
    )
    yield "On how many problems ours need no more, of those that either solves:"
    yield duels_table(data)
    yield "## Problems"
    yield costs_table(data)
    for title, lines in (
        ("Solvers that could not be run", failures(data)),
        ("Problems that no solver could be started on", unusable(data)),
    ):
        if lines:
            yield f"## {title}"
            yield items(lines)
    yield "## Versions"
    versions = json.loads(data.attrs["versions"])
    yield ", ".join(f"{name} {value}" for name, value in versions.items()) + "."


def report(data: xr.Dataset) -> str:
    """The whole report, in Markdown, with its figure."""
    return "\n\n".join(_sections(data)) + "\n"
