"""The plays of Shakespeare, or any other text, from a folder of the user's."""

from pathlib import Path

import numpy as np

from ._characters import Text
from ._folder import data_folder, find_file
from ._idx import DataError, read_bytes


_NAME = "shakespeare"
_FILE = "shakespeare.txt"
_WANTED = (
    f"Any text in UTF-8 will do: put it as {_FILE} or {_FILE}.gz into a folder, or into "
    f"a subfolder {_NAME} of it, and name the folder with --data-dir or CURVOPT_DATA."
)
# A tenth of it is to be one character at least.
_SHORTEST = 10
# Indices of symbols are kept in bytes.
_MOST_SYMBOLS = 256


def _characters(content: bytes, path: Path) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not a text in UTF-8: its byte {error.start} is "
            f"{content[error.start]:02x}. {_WANTED}"
        ) from error
    if len(text) < _SHORTEST:
        raise DataError(
            f"{path} is too short: it has {len(text)} characters, but at least "
            f"{_SHORTEST} are needed, for a tenth of them is kept for testing. {_WANTED}"
        )
    return text


def load_shakespeare(folder: Path | None = None) -> Text:
    """Load the plays of Shakespeare as characters, or whatever text is in their place.

    Nothing is filtered or replaced: the alphabet is the set of all symbols that occur.
    The last tenth of the text is for testing.

    **Arguments:**

    - `folder`: where `shakespeare.txt` or `shakespeare.txt.gz` is, directly or in a
        subfolder `shakespeare`. Default: the environment variable `CURVOPT_DATA`.
        The file is not downloaded, and its content is not prescribed: any text in UTF-8
        is taken.

    **Returns:**

    An [`experiments.data.Text`][].

    **Raises:**

    `DataError` if the file is missing, corrupt, not in UTF-8, shorter than ten
    characters, or has more than 256 different symbols.
    """
    folder = data_folder(folder)
    if folder is None:
        raise DataError(f"there is nowhere to download {_NAME} from. {_WANTED}")
    path = find_file(folder, _NAME, _FILE)
    if path is None:
        raise DataError(
            f"{_NAME} is not in {folder}: there is no {_FILE} or {_FILE}.gz, neither there "
            f"nor in its subfolder {_NAME}. {_WANTED}"
        )
    text = _characters(read_bytes(path), path)
    # UTF-32 has one number for each character.
    points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    alphabet = np.unique(points)
    if len(alphabet) > _MOST_SYMBOLS:
        raise DataError(
            f"{path} has {len(alphabet)} different symbols, but models of characters are "
            f"for at most {_MOST_SYMBOLS}. Take a text in an alphabetic script."
        )
    indices = np.searchsorted(alphabet, points).astype(np.uint8)
    split = len(indices) - len(indices) // 10
    symbols = "".join(map(chr, alphabet))
    return Text(_NAME, train=indices[:split], test=indices[split:], alphabet=symbols)
