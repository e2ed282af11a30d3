"""The solvers that are compared, one entry each in `SOLVERS`."""

import dataclasses

import optimistix as optx

import curvopt
from strategies import (
    Backtracking,
    BFGS,
    CurvatureRescaling,
    HagerZhang,
    LBFGS,
    LearningRate,
    NonlinearCG,
    SGD,
    StrongWolfe,
    TruncatedNewton,
)


@dataclasses.dataclass(frozen=True)
class Solver:
    """A solver with its label.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `minimiser`: the solver. Its own test of convergence is not used.
    """

    label: str
    minimiser: optx.AbstractMinimiser

    @property
    def ours(self) -> bool:
        return isinstance(self.minimiser, curvopt.LineSearchMinimiser)


def _rescaled(direction: curvopt.AbstractDirection) -> optx.AbstractMinimiser:
    return curvopt.LineSearchMinimiser(direction, Backtracking(CurvatureRescaling()))


# At these tolerances Optimistix's tests of convergence never hold: the driver ends a run.
_RTOL, _ATOL = 1e-300, 0.0

# The natural step of a quasi-Newton direction is 1.
_WOLFE, _HAGER_ZHANG = (rule(LearningRate(1.0)) for rule in (StrongWolfe, HagerZhang))

SOLVERS = {
    "bfgs": Solver("BFGS, strong Wolfe", curvopt.LineSearchMinimiser(BFGS(), _WOLFE)),
    "lbfgs": Solver("LBFGS, strong Wolfe", curvopt.LineSearchMinimiser(LBFGS(), _WOLFE)),
    "bfgs-hz": Solver(
        "BFGS, Hager-Zhang", curvopt.LineSearchMinimiser(BFGS(), _HAGER_ZHANG)
    ),
    "newton": Solver(
        "TruncatedNewton, strong Wolfe",
        curvopt.LineSearchMinimiser(TruncatedNewton(), _WOLFE),
    ),
    "lbfgs-rescaled": Solver("LBFGS, rescaled", _rescaled(LBFGS())),
    "cg": Solver("NonlinearCG, rescaled", _rescaled(NonlinearCG())),
    "sgd": Solver("SGD, rescaled", _rescaled(SGD())),
    "optx-bfgs": Solver("optx.BFGS", optx.BFGS(_RTOL, _ATOL)),
    "optx-lbfgs": Solver("optx.LBFGS", optx.LBFGS(_RTOL, _ATOL)),
    "optx-cg": Solver("optx.NonlinearCG", optx.NonlinearCG(_RTOL, _ATOL)),
}
