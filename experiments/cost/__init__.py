"""What the curvature costs, by every known way to have it: `python -m experiments cost`."""

from ._command import Cost as Cost, cost as cost
