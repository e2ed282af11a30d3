"""IDX, the file format of MNIST and of Fashion-MNIST."""

import gzip
import io
import lzma
import math
import struct
from pathlib import Path

import numpy as np


class DataError(ValueError):
    """A data file that is missing, truncated, corrupt or of another kind."""


# No data set here is nearly as large, and a few bytes can unpack to more than any memory.
_LARGEST = 2**30


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked if it is in gzip's or xz's format.

    **Raises:**

    `DataError` if it cannot be read, its compressed stream is truncated or corrupt, or it
    unpacks to more than 1 GiB.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(_LARGEST + 1)
        elif content[:6] == b"\xfd7zXZ\x00":
            content = lzma.LZMAFile(io.BytesIO(content)).read(_LARGEST + 1)
    except (OSError, EOFError, gzip.zlib.error, lzma.LZMAError) as error:  # pyright: ignore
        raise DataError(
            f"{path} cannot be read: {error}. It may be truncated or corrupt; get it again."
        ) from error
    if len(content) > _LARGEST:
        raise DataError(
            f"{path} has more than {_LARGEST} bytes, far more than the data set: get it "
            "again."
        )
    return content


# Number, channel, height, width.
_MOST_AXES = 4


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """An IDX file of unsigned bytes as an array.

    **Arguments:**

    - `content`: the unzipped file.
    - `name`: what to call it in errors.

    **Returns:**

    A `uint8` array of the shape that its header gives.

    **Raises:**

    `DataError` if the header is not that of an IDX file of bytes, or the length is not
    what the header promises.

    Source: the format is described beside MNIST (LeCun, Cortes & Burges).
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(
            f"{name} is not an IDX file of unsigned bytes: it begins with "
            f"{content[:4].hex() or 'nothing'}, not with 000008."
        )
    ndim = content[3]
    if not 1 <= ndim <= _MOST_AXES:
        raise DataError(
            f"{name} is corrupt: its header promises {ndim} axes, where 1 to {_MOST_AXES} "
            "are expected. Get it again."
        )
    header = 4 + 4 * ndim
    if len(content) < header:
        raise DataError(f"{name} is truncated: it ends within its header.")
    shape = struct.unpack(f">{ndim}I", content[4:header])
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{name} is truncated or corrupt: its header promises {expected} bytes for "
            f"shape {shape}, but it has {len(content)}. Get it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
