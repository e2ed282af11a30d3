"""Labels: the project's own may contain mathematics; names of strategies are plain text."""

import matplotlib.mathtext
from matplotlib.text import Text

from .._names import shown


class Maths(str):
    """A label in which dollar signs enclose mathematics. In every other string they are
    just dollar signs, since the name of a strategy may contain anything."""


def caption(text: str) -> str:
    """Text that was written for a figure: mathematics if it parses, else plain text."""
    try:
        matplotlib.mathtext.MathTextParser("path").parse(text)
    except ValueError:
        return text
    return Maths(text)


def write(artist: Text, label: str) -> None:
    """Set a label as the text of an artist."""
    own = isinstance(label, Maths)
    artist.set_text(label if own else shown(label))
    artist.set_parse_math(own)


def plain(label: str) -> str:
    """A label for code that always parses mathematics."""
    return label if isinstance(label, Maths) else shown(label).replace("$", r"\$")
