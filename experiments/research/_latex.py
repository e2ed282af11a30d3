"""Numbers and tables in LaTeX."""

import math
import re

from .._formatting import booktabs, number


table = booktabs


def plain(x: float, digits: int = 2) -> str:
    """A number with `digits` significant digits, without an exponent if readable."""
    if not math.isfinite(x):
        return r"\infty" if x > 0 else "--"
    if x == 0:
        return "0"
    if x < 0:
        return r"\ensuremath{-}" + plain(-x, digits)
    # The exponent of the rounded number: 0.996 is 1.0.
    mantissa, _, power = f"{x:.{digits - 1}e}".partition("e")
    exponent = int(power)
    if -4 < exponent < 5:
        return f"{x:.{max(0, digits - 1 - exponent)}f}"
    return rf"\ensuremath{{{mantissa} \times 10^{{{exponent}}}}}"


def two(x: float) -> str:
    """A number with two decimals, for costs and times relative to a gradient's."""
    return number(x, ".2f", "--")


def percent(x: float, digits: int = 2) -> str:
    return rf"{plain(100 * x, digits)}\,\%"


def fraction(x: float) -> str:
    """A power of two as a fraction: 1/16, 1/2, 4."""
    if not math.isfinite(x):
        return plain(x)
    return f"{x:g}" if x >= 1 else f"1/{1 / x:g}"


def between(low: str, high: str) -> str:
    """A range, or the one value of both ends."""
    return low if low == high else f"{low} to {high}"


def camel(text: str) -> str:
    """A name in camel case, letters only, as part of a macro's name."""
    return "".join(word.capitalize() for word in re.findall("[A-Za-z]+", text))
