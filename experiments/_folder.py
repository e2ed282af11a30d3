"""A folder of results."""

import os
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure
import xarray as xr

from ._html import html_report
from ._names import UsageError


def replace_file(target: Path, write: Callable[[Path], object]) -> Path:
    """Write a file atomically: it is complete, or as it was before.

    **Arguments:**

    - `target`: the file's path; its folder is created.
    - `write`: writes the file to the path that it is given.

    **Raises:**

    `UsageError` if it cannot be written.
    """
    # The suffix stays last: Matplotlib chooses the format by it.
    partial = target.with_name(f".partial-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # netCDF raises RuntimeError
        raise UsageError(
            f"{target} cannot be written: {error}. All saved runs are intact: free some "
            "space and repeat the command, which resumes."
        ) from error
    return target


def save_dataset(path: Path, data: xr.Dataset) -> Path:
    """Save a dataset as compressed netCDF 4."""
    encoding = {name: {"zlib": True} for name, v in data.items() if v.ndim > 0}
    return replace_file(
        path, lambda own: data.to_netcdf(own, engine="netcdf4", encoding=encoding)
    )


class ResultsFolder:
    """The folder to which a command writes its results. Files are complete or absent.

    **Arguments:**

    - `path`: the folder; created if it does not exist.
    - `overwrite`: whether existing results may be replaced.

    **Raises:**

    `UsageError` if the folder is not writable, or holds results that may not be replaced.
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
                f"the output folder {path} already holds results. Choose another with "
                "--out, or replace them with --overwrite."
            )

    def save_data(self, name: str, data: xr.Dataset) -> Path:
        """Save a dataset as compressed netCDF 4."""
        return save_dataset(self.path / name, data)

    def save_figure(self, name: str, figure: matplotlib.figure.Figure) -> None:
        """Save a figure as a bitmap (`.png`) and as vector graphics (`.pdf`)."""
        # Constrained layout is slow: it runs once, not again for every format.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for suffix in (".png", ".pdf"):
            target = self.path / "figures" / f"{name}{suffix}"
            replace_file(target, lambda path: figure.savefig(path, dpi=200))

    def save_text(self, name: str, text: str) -> Path:
        return replace_file(self.path / name, lambda path: path.write_text(text, "utf-8"))

    def save_report(self, text: str) -> Path:
        """Save a Markdown report as `report.md` and `report.html`, which embeds the
        figures: save them first. Returns the path of the HTML page."""
        page = html_report(text, self.path)
        self.save_text("report.md", text)
        return self.save_text("report.html", page)
