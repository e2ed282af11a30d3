"""Our solvers compared with Optimistix's on deterministic problems:
`python -m experiments deterministic`."""

from ._command import Deterministic as Deterministic, deterministic as deterministic
