"""Which rule differentiated which equation of a loss."""

import collections
import dataclasses
from typing import Any

from ._equation import EquationReport


@dataclasses.dataclass(frozen=True)
class CurvatureReport:
    """How the curvature of a loss is had, equation by equation.

    `print` it for a table of what occurs how often. The rules, cheapest first:

    - `linear`: nothing to add;
    - `bilinear`, `bilinear, two products`, `bilinear, three products`: a product of two
        values that both depend on the parameters;
    - `elementwise`: a chain of elementwise operations, evaluated once more;
    - `generic`: exact, at the cost of a nested `jvp` of this equation;
    - `scan`, `remat`: the sweeps run inside; the equations of the body follow;
    - `reverse over reverse`: it contains a `jax.custom_vjp`.

    **Attributes:**

    - `equations`: a tuple of [`curvopt.EquationReport`][], in the order of evaluation.
        Empty for a method that takes the loss as a whole.
    """

    equations: tuple[EquationReport, ...] = ()

    @staticmethod
    def of(tape: Any, products: Any) -> "CurvatureReport":
        """The report of a method that sweeps over a tape."""
        lines = (line for equation in tape.equations for line in equation.report(products))
        return CurvatureReport(tuple(lines))

    def __str__(self) -> str:
        if not self.equations:
            return "The loss as a whole: no equation depends on a rule."
        counts = collections.Counter(self.equations)
        rows = [("count", "primitive", "rule", "source")]
        rows += [(str(n), *line) for line, n in counts.items()]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [
            "  ".join([*(row[k].ljust(widths[k]) for k in range(3)), row[3]])
            for row in rows
        ]
        return "\n".join([f"{len(self.equations)} equations:", *lines])
