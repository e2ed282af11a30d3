"""Labels: the project's own have mathematics in them; names are text."""

import matplotlib.mathtext
from matplotlib.text import Text

from .._names import shown


class Maths(str):
    """A label in which dollar signs enclose mathematics. In every other string they are
    dollar signs: nobody knows what people call their strategies."""


def caption(text: str) -> str:
    """What is written for a figure, and may have mathematics in it, if it is any."""
    try:
        matplotlib.mathtext.MathTextParser("path").parse(text)
    except ValueError:
        return text
    return Maths(text)


def write(artist: Text, label: str) -> None:
    """Make a label the text of an artist."""
    own = isinstance(label, Maths)
    artist.set_text(label if own else shown(label))
    artist.set_parse_math(own)


def plain(label: str) -> str:
    """A label for what always looks for mathematics."""
    return label if isinstance(label, Maths) else shown(label).replace("$", r"\$")
