"""The small files that the paper is made of, each with what made it."""

import datetime
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import xarray as xr

import curvopt

from .._hardware import hardware
from ._bench import Bench


def _commit() -> str:
    """The commit that the code is of; with a `+` where files were changed since."""
    folder = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# Where things are is no part of how a result is made.
_PLACES = ("--data-dir", "--out", "--runs")


def _command() -> str:
    words, named = [], False
    for word in sys.argv[1:]:
        if not named and word not in _PLACES:
            words.append(word)
        named = not named and word in _PLACES
    return "python -m experiments " + shlex.join(words)


def origin() -> dict[str, str]:
    """What made a result: command, commit, versions and machine."""
    return {
        "command": _command(),
        "commit": _commit(),
        "versions": json.dumps(curvopt.versions()),
        "hardware": json.dumps(hardware()),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def provenance(bench: Bench) -> dict[str, str]:
    """What made a result, and on what."""
    return origin() | {
        "setting": bench.name,
        "label": bench.setting.label,
        "metric": bench.setting.metric,
        "steps": str(bench.steps),
        "quick": str(bench.quick),
    }


def keep(path: Path, data: xr.Dataset, attributes: Mapping[str, str]) -> None:
    """Write a result; it is complete or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    encoding = {name: {"zlib": True} for name, v in data.items() if v.ndim > 0}
    data.assign_attrs(attributes).to_netcdf(partial, engine="netcdf4", encoding=encoding)
    os.replace(partial, path)


def kept(folder: Path) -> dict[str, xr.Dataset]:
    """The results in a folder, by setting."""
    return {path.stem: xr.load_dataset(path) for path in sorted(folder.glob("*.nc"))}
