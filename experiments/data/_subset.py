"""The Fashion-MNIST subset that comes with the project."""

import hashlib
import io
from pathlib import Path

import numpy as np

from ._idx import DataError
from ._images import Images


SUBSET_FILE = Path(__file__).with_name("fashion_mnist_subset.npz")
_SHA256 = "2f0c7322d067deaaddcc24c1c8990fe80a1300bfd492bbed9ca01c47d39043a3"


def load_subset(path: Path = SUBSET_FILE) -> Images:
    """Load the embedded subset of Fashion-MNIST: 12,000 images for training and 2,000
    for testing, the same number of each of its ten classes.

    **Arguments:**

    - `path`: the file, for tests.

    **Returns:**

    An [`experiments.data.Images`][].

    **Raises:**

    `DataError` if the file is missing, truncated or corrupt, by its SHA-256.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the embedded data file {path} cannot be read: {error}. Install the "
            "project again."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise DataError(
            f"the embedded data file {path} is truncated or corrupt: it has "
            f"{len(content)} bytes and SHA-256 {found}, but {_SHA256} is expected. "
            "Check it out again (without line-ending conversion)."
        )
    with np.load(io.BytesIO(content)) as arrays:
        return Images("fashion-mnist-subset", **arrays)
