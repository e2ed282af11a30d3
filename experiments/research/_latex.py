"""Numbers and tables as LaTeX writes them."""

import math
import re

from .._formatting import booktabs, number


table = booktabs


def plain(x: float, digits: int = 2) -> str:
    """With so many significant digits, without an exponent where that is readable."""
    if not math.isfinite(x):
        return r"\infty" if x > 0 else "--"
    if x == 0:
        return "0"
    if x < 0:
        return r"\ensuremath{-}" + plain(-x, digits)
    # Of the rounded number: 0.996 is 1.0.
    mantissa, _, power = f"{x:.{digits - 1}e}".partition("e")
    exponent = int(power)
    if -4 < exponent < 5:
        return f"{x:.{max(0, digits - 1 - exponent)}f}"
    return rf"\ensuremath{{{mantissa} \times 10^{{{exponent}}}}}"


def two(x: float) -> str:
    """With two decimals, as costs and times over a gradient's are given."""
    return number(x, ".2f", "--")


def percent(x: float, digits: int = 2) -> str:
    return rf"{plain(100 * x, digits)}\,\%"


def fraction(x: float) -> str:
    """A power of two as it is said: 1/16, 1/2, 4."""
    if not math.isfinite(x):
        return plain(x)
    return f"{x:g}" if x >= 1 else f"1/{1 / x:g}"


def between(low: str, high: str) -> str:
    """A range, or what both ends are."""
    return low if low == high else f"{low} to {high}"


def camel(text: str) -> str:
    """The words of a name, as a part of the name of a number: letters only."""
    return "".join(word.capitalize() for word in re.findall("[A-Za-z]+", text))
