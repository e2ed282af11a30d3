import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree, Scalar


@dataclasses.dataclass(frozen=True)
class Problem:
    """An unconstrained function to minimise.

    **Attributes:**

    - `name`: its name on the command line and in tables.
    - `fn`: `fn(y, args)`, the value.
    - `start`: makes `(y0, args)`, in float64 if jax has it enabled.
    - `minimum`: the lowest value, if known.
    """

    name: str
    fn: Callable[[PyTree, Any], Scalar]
    start: Callable[[], tuple[PyTree, Any]]
    minimum: float | None = None
