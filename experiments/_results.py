"""A folder of results."""

import os
import shutil
from pathlib import Path

import matplotlib.figure
import xarray as xr

from ._catalogue import UsageError
from ._html import html_report


class ResultsFolder:
    """Where a command writes what it found. Files are complete or not there at all.

    **Arguments:**

    - `path`: the folder; made if it is not there.
    - `overwrite`: whether to begin anew where there are results.
    - `resumes`: whether the command goes on with what is there, a study that was broken
        off or one that is finished.

    **Raises:**

    `UsageError` if it cannot be written to, or holds results that the command can neither
    go on with nor overwrite.
    """

    def __init__(self, path: Path, overwrite: bool, *, resumes: bool = False):
        self.path = path
        probe = path / ".writable"
        try:
            (path / "figures").mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
            if overwrite:
                for name in ("study", "tuning"):
                    shutil.rmtree(path / name, ignore_errors=True)
        except OSError as error:
            raise UsageError(
                f"the output folder {path} is not writable: {error}. Choose another "
                "with --out."
            ) from error

        if (path / "results.nc").exists() and not (overwrite or resumes):
            raise UsageError(
                f"the output folder {path} holds results already. Choose another with "
                "--out, or replace them with --overwrite."
            )

    @property
    def study(self) -> Path:
        """Where the runs are saved as they go."""
        return self.path / "study"

    @property
    def tuning(self) -> Path:
        """Where the runs of the tuning are saved as they go."""
        return self.path / "tuning"

    def _replace(self, name: str, write) -> Path:
        target = self.path / name
        # The suffix stays last: writers choose the format by it.
        partial = target.with_name(f".partial-{target.name}")
        write(partial)
        os.replace(partial, target)
        return target

    def save_data(self, name: str, data: xr.Dataset) -> Path:
        """A dataset as netCDF 4, compressed."""
        encoding = {name: {"zlib": True} for name, v in data.items() if v.ndim > 1}
        return self._replace(
            name,
            lambda path: data.to_netcdf(path, engine="netcdf4", encoding=encoding),
        )

    def save_figure(self, name: str, figure: matplotlib.figure.Figure) -> None:
        """A figure as bitmap (`.png`) and as vectors (`.pdf`)."""
        # Laid out once, not again for every format.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for suffix in (".png", ".pdf"):
            self._replace(
                f"figures/{name}{suffix}", lambda path: figure.savefig(path, dpi=200)
            )

    def save_text(self, name: str, text: str) -> Path:
        return self._replace(name, lambda path: path.write_text(text, "utf-8"))

    def save_report(self, text: str) -> Path:
        """A report in Markdown, as `report.md` and as `report.html`, which has the figures
        in it; they must be saved already. Its path is returned."""
        page = html_report(text, self.path)
        self.save_text("report.md", text)
        return self.save_text("report.html", page)
