"""Families of paired comparisons of final losses, as counts and tables."""

from collections.abc import Mapping, Sequence
from typing import Literal

import xarray as xr

from curvopt.statistics import compare_paired, PairedComparison

from ._latex import plain, table
from ._standings import failed, final, label, names


Verdict = Literal["better", "worse", "undecided"]

# A strategy and the baseline that it is compared with.
Pair = tuple[str, str]

Claims = Mapping[Pair, PairedComparison]


def claims(data: xr.Dataset, pairs: Sequence[Pair]) -> dict[Pair, PairedComparison]:
    """Compare strategies with their baselines on a setting, as one family. Pairs with a
    strategy that was not run there are left out."""
    ends, there = final(data), set(names(data))
    values = {name: ends.sel(strategy=name).values for name in there}
    known = {", against ".join(pair): pair for pair in pairs if there.issuperset(pair)}
    found = compare_paired({name: (values[a], values[b]) for name, (a, b) in known.items()})
    return {known[name]: pair for name, pair in found.items()}


def verdict(pair: PairedComparison) -> Verdict:
    """The verdict on a loss: lower is better."""
    if not pair.holds:
        return "undecided"
    return "better" if pair.mean_difference < 0 else "worse"


def counted(
    found: Mapping[str, Claims], pairs: Sequence[Pair], prefix: str
) -> dict[str, str]:
    """The numbers of pairs that are better, worse and undecided over all settings, named
    `prefix` with `Better`, `Worse` and `Undecided`."""
    verdicts = [
        verdict(pair)
        for own in found.values()
        for which, pair in own.items()
        if which in pairs
    ]
    kinds: tuple[Verdict, ...] = "better", "worse", "undecided"
    return {f"{prefix}{kind.capitalize()}": str(verdicts.count(kind)) for kind in kinds}


def _cell(data: xr.Dataset, own: Claims, pair: Pair) -> str:
    """The difference in per cent of the baseline's mean, bold if it holds."""
    if pair not in own:
        return "--"
    found, rival = own[pair], float(final(data).sel(strategy=pair[1]).mean())
    text = (
        f"{100 * found.mean_difference / rival:+.1f}"
        if rival > 0
        else (plain(found.mean_difference, 2))
    )
    return rf"$\mathbf{{{text}}}$" if found.holds else f"${text}$"


def number_failed(data: xr.Dataset, strategy: str) -> int:
    """The number of a strategy's runs that failed."""
    return int(failed(data).sel(strategy=strategy).sum())


def _in_brackets(data: xr.Dataset, strategy: str) -> str:
    count = number_failed(data, strategy) if strategy in names(data) else 0
    return f" ({count})" if count else ""


def claims_table(
    results: Mapping[str, xr.Dataset],
    found: Mapping[str, Claims],
    groups: Mapping[str, Mapping[str, Pair]],
    *,
    failures: bool = False,
) -> str:
    """The table of differences, with a column for each setting.

    **Arguments:**

    - `results`, `found`: the results and claims by setting.
    - `groups`: the pairs by title and by the label of their row.
    - `failures`: whether to add the number of the strategy's failed runs in brackets.
    """
    rows = [["", *(label(data) for data in results.values())]]
    for title, pairs in groups.items():
        rows.append([rf"\multicolumn{{{1 + len(results)}}}{{l}}{{\emph{{{title}}}}}"])
        for row, pair in pairs.items():
            cells = [_cell(data, found[name], pair) for name, data in results.items()]
            if failures:
                counts = [_in_brackets(data, pair[0]) for data in results.values()]
                cells = [cell + count for cell, count in zip(cells, counts)]
            if any(pair in own for own in found.values()):
                rows.append([row, *cells])
    return table(rows, "l" + "r" * len(results))
