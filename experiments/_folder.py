"""A folder of results."""

import os
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure
import xarray as xr

from ._html import html_report
from ._names import UsageError


def replace_file(target: Path, write: Callable[[Path], object]) -> Path:
    """Write a file: it is complete or what it was before.

    **Arguments:**

    - `target`: its path; folders are made.
    - `write`: writes it to the path that it is given.

    **Raises:**

    `UsageError` if it cannot be written.
    """
    # The suffix stays last: writers choose the format by it.
    partial = target.with_name(f".partial-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # what netCDF raises is one of the second
        raise UsageError(
            f"{target} cannot be written: {error}. Runs that were saved are as they were: "
            "make room, and give the same command again."
        ) from error
    return target


def save_dataset(path: Path, data: xr.Dataset) -> Path:
    """A dataset as netCDF 4, compressed."""
    encoding = {name: {"zlib": True} for name, v in data.items() if v.ndim > 0}
    return replace_file(
        path, lambda own: data.to_netcdf(own, engine="netcdf4", encoding=encoding)
    )


class ResultsFolder:
    """Where a command writes what it found. Files are complete or not there at all.

    **Arguments:**

    - `path`: the folder; made if it is not there.
    - `overwrite`: whether results that are there may be replaced.

    **Raises:**

    `UsageError` if it cannot be written to, or holds results that may not be replaced.
    """

    def __init__(self, path: Path, overwrite: bool = True):
        self.path = path
        probe = path / ".writable"
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"the output folder {path} is not writable: {error}. Choose another "
                "with --out."
            ) from error
        if (path / "results.nc").exists() and not overwrite:
            raise UsageError(
                f"the output folder {path} holds results already. Choose another with "
                "--out, or replace them with --overwrite."
            )

    def save_data(self, name: str, data: xr.Dataset) -> Path:
        """A dataset as netCDF 4, compressed."""
        return save_dataset(self.path / name, data)

    def save_figure(self, name: str, figure: matplotlib.figure.Figure) -> None:
        """A figure as bitmap (`.png`) and as vectors (`.pdf`)."""
        # Laid out once, not again for every format.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for suffix in (".png", ".pdf"):
            target = self.path / "figures" / f"{name}{suffix}"
            replace_file(target, lambda path: figure.savefig(path, dpi=200))

    def save_text(self, name: str, text: str) -> Path:
        return replace_file(self.path / name, lambda path: path.write_text(text, "utf-8"))

    def save_report(self, text: str) -> Path:
        """A report in Markdown, as `report.md` and as `report.html`, which has the figures
        in it; they must be saved already. Its path is returned."""
        page = html_report(text, self.path)
        self.save_text("report.md", text)
        return self.save_text("report.html", page)
