"""IDX, the file format of MNIST and of Fashion-MNIST."""

import gzip
import struct
from pathlib import Path

import numpy as np


class DataError(ValueError):
    """A data file that is missing, truncated, corrupt or of another kind."""


def read_bytes(path: Path) -> bytes:
    """The content of a file, unzipped if it is gzipped.

    **Raises:**

    `DataError` if it cannot be read or its gzip stream is truncated or corrupt.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, gzip.zlib.error) as error:  # pyright: ignore
        raise DataError(
            f"{path} cannot be read: {error}. It may be truncated or corrupt; get it again."
        ) from error


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
    header = 4 + 4 * ndim
    if len(content) < header:
        raise DataError(f"{name} is truncated: it ends within its header.")
    shape = struct.unpack(f">{ndim}I", content[4:header])
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise DataError(
            f"{name} is truncated or corrupt: its header promises {expected} bytes for "
            f"shape {shape}, but it has {len(content)}. Get it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
