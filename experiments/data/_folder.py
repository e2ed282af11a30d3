"""The folder with the user's data, and the files in it."""

import os
from pathlib import Path

from ._idx import DataError


def data_folder(folder: Path | None) -> Path | None:
    """The folder with the user's data.

    **Returns:**

    `folder`; without it what the environment variable `CURVOPT_DATA` names; or `None`.

    **Raises:**

    `DataError` if it is not there, or is not a folder.
    """
    if folder is None and os.environ.get("CURVOPT_DATA"):
        folder = Path(os.environ["CURVOPT_DATA"])
    if folder is not None and not folder.is_dir():
        raise DataError(f"the data folder {folder} is not there, or is not a folder.")
    return folder


def find_file(folder: Path, name: str, file: str) -> Path | None:
    """A file of the data set `name`: `file` or `file.gz`, in the subfolder `name` of
    `folder` or in `folder` itself; `None` if there is neither."""
    names = (file, f"{file}.gz")
    candidates = (base / n for base in (folder / name, folder) for n in names)
    return next((path for path in candidates if path.is_file()), None)
