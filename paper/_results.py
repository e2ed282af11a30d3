"""The result files of the experiments."""

import json
from collections.abc import Iterable
from pathlib import Path

import xarray as xr

from ._errors import BuildError


def result_files(folder: Path) -> list[Path]:
    """The complete results in a question's folder: hidden files are still being written."""
    found = (*folder.glob("*.nc"), *folder.glob("*.json"))
    return sorted(path for path in found if not path.name.startswith("."))


def _commit(path: Path) -> str | None:
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            return content.get("commit") if isinstance(content, dict) else None
        with xr.open_dataset(path) as data:
            return data.attrs.get("commit")
    except (OSError, ValueError) as error:
        raise BuildError(f"{path} is damaged. Make it again: {error}") from error


def commits(paths: Iterable[Path]) -> list[str]:
    """The commits of the code that made these results, where they are recorded."""
    return sorted({commit for path in paths if (commit := _commit(path)) is not None})
