"""The cost of the curvature by every known method: `python -m experiments cost`."""

from ._command import Cost as Cost, cost as cost
from ._report import larger_batches as larger_batches
from ._run import (
    cases as cases,
    QUICK_SECONDS as QUICK_SECONDS,
    run as run,
    SECONDS as SECONDS,
)
from ._variants import GRADIENT as GRADIENT, VARIANTS as VARIANTS
from ._workloads import Workload as Workload, WORKLOADS as WORKLOADS
