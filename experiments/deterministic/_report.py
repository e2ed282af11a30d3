import json
from collections.abc import Iterator

import xarray as xr

from .._formatting import items
from ._table import costs_table, duels_table, failures, summary_table


def unusable(data: xr.Dataset) -> list[str]:
    """The problems on which no solver could start, with the reasons."""
    reasons = json.loads(data.attrs["unusable"])
    return [f"{name}: {reason}" for name, reason in reasons.items()]


def _sections(data: xr.Dataset) -> Iterator[str]:
    yield "# Our solvers compared with Optimistix's, on deterministic problems"
    yield f"Command:\n\n```\n{data.attrs['command']}\n```"
    yield (
        f"{data.sizes['problem']} problems in float64, each from its standard start. A "
        f"problem is solved at the first point with f <= f_L + {data.attrs['tolerance']:g} "
        "(f(y0) - f_L), where f_L is the lowest value that any of these solvers found, or "
        "the minimum if it is known and lower (Moré & Wild 2009). So a local minimum above "
        "another solver's does not count. Costs are in gradient-equivalents (C): one "
        "value-and-gradient is 1, a loss and a curvature are priced by XLA's FLOPs on the "
        "same problem, without transcendental functions. A search that evaluates gradients "
        "hands on that of the accepted trial, as Optimistix's do; one that evaluates "
        "losses pays for it twice. The cost at a point includes its gradient."
    )
    yield (
        "![Performance profile: the share of problems that a solver solves within a factor "
        "of the cheapest solver's cost. Solid: ours; dashed: Optimistix's]"
        "(figures/profile.png)"
    )
    yield "## Summary"
    yield summary_table(data)
    yield (
        "Evaluations are counted up to the target. Medians are over all problems, with "
        "infinity for a missed one. The time is the processor time of one whole run "
        "without compilation, divided by its cost."
    )
    yield "The number of problems on which ours need no more, of those that either solves:"
    yield duels_table(data)
    yield "The same in processor time:"
    yield duels_table(data, "seconds_to_target")
    yield "## Problems"
    yield costs_table(data)
    for title, lines in (
        ("Solvers that failed", failures(data)),
        ("Problems on which no solver could start", unusable(data)),
    ):
        if lines:
            yield f"## {title}"
            yield items(lines)
    yield "## Versions"
    versions = json.loads(data.attrs["versions"])
    yield ", ".join(f"{name} {value}" for name, value in versions.items()) + "."


def report(data: xr.Dataset) -> str:
    """The whole report in Markdown."""
    return "\n\n".join(_sections(data)) + "\n"
