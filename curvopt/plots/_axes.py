"""Axes with few ticks, labelled by plain numbers where possible."""

import math
from collections.abc import Iterable
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes


class _LogLocator(matplotlib.ticker.Locator):
    """About four ticks on a logarithmic axis, whether it spans a tenth of a decade or
    twenty; below two decades Matplotlib's own locator gives none, one or dozens."""

    def __call__(self) -> Any:
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Any:
        low, high = sorted((vmin, vmax))
        if low <= 0:
            return []
        decades = math.log10(high) - math.log10(low)
        if decades < 0.7:
            found = matplotlib.ticker.MaxNLocator(4).tick_values(low, high)
            return [x for x in found if low <= x <= high]
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        if decades < 2:
            digits = (1, 2, 5) if decades < 1.5 else (1, 3)
            found = [d * 10.0**k for k in range(first, last + 1) for d in digits]
        else:
            stride = max(1, math.ceil(decades / 5))
            start = math.ceil(first / stride) * stride
            found = [10.0**k for k in range(start, last + 1, stride)]
        # Rounding must not drop a tick at the very end.
        return [x for x in found if low * (1 - 1e-9) <= x <= high * (1 + 1e-9)]


class _LogFormatter(matplotlib.ticker.Formatter):
    """Plain numbers if all of them are short, powers of ten otherwise."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        del pos
        return f"{x:g}" if 1e-3 <= abs(x) < 1e4 else self._power(x)

    def format_ticks(self, values: Any) -> list[str]:
        plain = all(1e-3 <= abs(x) < 1e4 for x in values)
        return [f"{x:g}" if plain else self._power(x) for x in values]

    def _power(self, x: float) -> str:
        digits, _, exponent = f"{x:.6e}".partition("e")
        factor = "" if float(digits) == 1 else rf"{float(digits):g}{{\cdot}}"
        return f"${factor}10^{{{int(exponent)}}}$"


def log_axis(ax: Axes, which: str) -> None:
    """A logarithmic axis (`"x"` or `"y"`) with ticks at round numbers."""
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(_LogLocator())
    axis.set_major_formatter(_LogFormatter())
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


class _ShortFormatter(matplotlib.ticker.ScalarFormatter):
    """Thousands and millions as 20k and 1.5M, to save room."""

    def format_ticks(self, values: Any) -> list[str]:
        if not 1e4 <= max(map(abs, values), default=0.0) < 1e15:
            return super().format_ticks(values)
        return matplotlib.ticker.EngFormatter(sep="").format_ticks(values)


def few_ticks(ax: Axes, which: str, *, narrow: bool = False) -> None:
    """A linear axis with few ticks, and fewer in narrow panels."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    most = 3 if narrow else 5
    axis.set_major_locator(matplotlib.ticker.MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(_ShortFormatter())


def positive(values: Iterable[np.ndarray]) -> bool:
    """Whether all finite values are positive, as a logarithmic axis needs."""
    return all(bool(np.all(x[np.isfinite(x)] > 0)) for x in values)
