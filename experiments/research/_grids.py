"""The values that are tried."""

import numpy as np


def decades(lowest: int, highest: int) -> list[float]:
    """Two values in every power of ten: ..., 0.1, 0.316, 1, ..."""
    return [float(f"{10.0 ** (k / 2):.4g}") for k in range(2 * lowest, 2 * highest + 1)]


# Of raw learning rates, for each direction: wide enough for losses of all scales.
RATES: dict[str, list[float]] = {
    "SGD": decades(-4, 1),
    "Momentum": decades(-4, 1),
    "RMSProp": decades(-5, -1),
    "Adam": decades(-5, -1),
}

# Of the rescaled learning rate: 1/16 to 8.
SCALES: list[float] = (2.0 ** np.arange(-4, 4)).tolist()

# Beyond them, where the theory has the edge of stability at (1 + 0.9) / (1 - 0.9).
FAR_SCALES: list[float] = [16.0, 32.0]
