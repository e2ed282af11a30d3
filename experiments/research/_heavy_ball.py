"""The paper's theory of the rescaled heavy ball on a quadratic with gradient noise, in its
stationary state. Equations and theorems are cited by their labels in
`paper/sections/memory.tex`."""

import dataclasses
from typing import Literal, TypeAlias

import numpy as np
import scipy


Along: TypeAlias = Literal["direction", "fresh"]


@dataclasses.dataclass(frozen=True)
class HeavyBall:
    r"""Heavy ball, $m^+ = \beta m + w g$, whose step is sized by long averages.

    **Attributes:**

    - `decay`: $\beta$.
    - `weight`: $w$; $1 - \beta$ is the normalised form, 1 the classical one.
    - `along`: the line along which slope and curvature are measured: $-m^+$ or $-g$.
    """

    decay: float
    weight: float
    along: Along

    @property
    def edge(self) -> float:
        r"""The $\ell$ at and above which the step reaches the edge of stability
        (`thm:edge`, `thm:fresh`)."""
        return 1.0 if self.along == "direction" else (1 + self.decay) / self.weight

    def _map(self, alpha: float, values: np.ndarray, noise: np.ndarray) -> float:
        r"""$T(\tau) w / (\ell \alpha)$ (`eq:map`), which equals $1 / \ell$ at the fixed
        point.

        $\alpha = \tau w$, and `noise` is $s_i^2$ along the eigenvectors of `values`.
        """
        room = 2 * (1 + self.decay) - alpha * values
        if self.along == "direction":
            # `eq:alpha`, divided by its right side.
            lost = np.sum(alpha * values * noise / room)
            return float(1 + (1 - self.decay) * noise.sum() / lost)
        # `eq:varg`
        gradient = noise * (1 + (1 + self.decay) / (1 - self.decay) * alpha * values / room)
        return float(2 * self.weight * gradient.sum() / (alpha * (values @ gradient)))

    def rate(self, ell: float, values: np.ndarray, noise: np.ndarray) -> float:
        r"""$\alpha = \tau w$ at the fixed point, for $\ell$ below the edge."""
        highest = 2 * (1 + self.decay) / values[noise > 0].max()

        def excess(alpha: float) -> float:
            return ell * self._map(alpha, values, noise) - 1

        bracket = (1e-9 * highest, (1 - 1e-12) * highest)
        return float(scipy.optimize.brentq(excess, *bracket, xtol=1e-14))  # pyright: ignore

    def floor(self, ell: float, values: np.ndarray, noise: np.ndarray) -> float:
        r"""The mean loss above its minimum at the fixed point, by `eq:var`; along the
        direction it is `eq:floor`."""
        alpha = self.rate(ell, values, noise)
        room = 2 * (1 + self.decay) - alpha * values
        factor = alpha * (1 + self.decay) / (2 * (1 - self.decay))
        return float(factor * np.sum(noise / room))
