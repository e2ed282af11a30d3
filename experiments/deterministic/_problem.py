import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree, Scalar


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function to minimise, without constraints.

    **Attributes:**

    - `name`: what it is called on the command line and in tables.
    - `fn`: `fn(y, args)`, the value.
    - `start`: makes `(y0, args)`, in float64 where jax has it switched on.
    - `minimum`: the lowest value, where it is known.
    """

    name: str
    fn: Callable[[PyTree, Any], Scalar]
    start: Callable[[], tuple[PyTree, Any]]
    minimum: float | None = None
