"""The full MNIST and Fashion-MNIST, from a folder of the user's or from the network."""

import hashlib
from pathlib import Path
from typing import Literal, TypeAlias

from ._folder import data_folder, find_file
from ._idx import DataError, parse_idx, read_bytes
from ._images import Images


Name: TypeAlias = Literal["mnist", "fashion-mnist"]

_PARTS = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}

# SHA-256 of the unzipped files: gzip files of the same content differ by their headers.
_SHA256 = {
    "mnist": {
        "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion-mnist": {
        "train_images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train_labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "test_images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "test_labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}

_URLS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}


def _find(folder: Path, name: Name, part: str) -> Path:
    """A part of a data set in `folder` or in `folder/<name>`, gzipped or not."""
    file = _PARTS[part]
    found = find_file(folder, name, file)
    if found is None:
        raise DataError(
            f"{name} is not complete in {folder}: there is no {file} or {file}.gz, "
            f"neither there nor in its subfolder {name}."
        )
    return found


def _verified(content: bytes, path: Path, name: Name, part: str) -> bytes:
    found, expected = hashlib.sha256(content).hexdigest(), _SHA256[name][part]
    if found != expected:
        raise DataError(
            f"{path} is not the {part.replace('_', ' ')} of {name}: its content has "
            f"SHA-256 {found}, but {expected} is expected. It may be corrupt, or belong "
            "to the other data set; get it again."
        )
    return content


def _downloaded(name: Name, part: str) -> Path:
    import pooch

    url = f"{_URLS[name]}{_PARTS[part]}.gz"
    try:
        # The content is verified by its own SHA-256 after it is unzipped.
        return Path(
            pooch.retrieve(url, known_hash=None, path=pooch.os_cache("curvopt") / name)
        )
    except Exception as error:
        raise DataError(
            f"{name} could not be downloaded from {url}: {error}. Put its four IDX files "
            "into a folder and name it with --data-dir or CURVOPT_DATA."
        ) from error


def load_full(name: Name, folder: Path | None = None) -> Images:
    """Load a full data set of 60,000 + 10,000 images.

    **Arguments:**

    - `name`: `"mnist"` or `"fashion-mnist"`.
    - `folder`: where its IDX files are, gzipped or not, directly or in a subfolder of
        its name. Default: the environment variable `CURVOPT_DATA`; without it the files
        are downloaded once and cached.

    **Returns:**

    An [`experiments.data.Images`][].

    **Raises:**

    `DataError` if a file is missing, truncated, corrupt (by its SHA-256) or cannot be
    downloaded.
    """
    folder = data_folder(folder)
    arrays = {}
    for part in _PARTS:
        path = _downloaded(name, part) if folder is None else _find(folder, name, part)
        content = _verified(read_bytes(path), path, name, part)
        arrays[part] = parse_idx(content, str(path))
    return Images(name, **arrays)
