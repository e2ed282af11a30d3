"""The small files that the paper is made of, each with what made it."""

from pathlib import Path

import xarray as xr

from .._origin import origin as _origin
from ._bench import Bench


# Where things are is no part of how a result is made.
_PLACES = ("--data-dir", "--out", "--runs")


def origin() -> dict[str, str]:
    """What made a result: command, commit, versions and machine."""
    return _origin(without=_PLACES)


def provenance(bench: Bench) -> dict[str, str]:
    """What made a result, and on what."""
    return origin() | {
        "setting": bench.name,
        "label": bench.setting.label,
        "metric": bench.setting.metric,
        "steps": str(bench.steps),
        "quick": str(bench.quick),
    }


def kept(folder: Path) -> dict[str, xr.Dataset]:
    """The results in a folder, by setting."""
    return {path.stem: xr.load_dataset(path) for path in sorted(folder.glob("*.nc"))}
