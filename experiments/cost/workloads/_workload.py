import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from .._instance import Instance


# From a batch size to a loss with parameters and synthetic data, always the same.
Builder: TypeAlias = Callable[[int], Instance]


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model to measure on.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `full`: builds it at its real size.
    - `tiny`: builds it so small that it only shows that everything works.
    - `batch_sizes`: the smaller and the larger one.
    - `loop_free`: from a builder to one whose program has no loops. XLA counts the
        FLOPs of a loop's body once, so where there are loops they are counted on this.
    """

    label: str
    full: Builder
    tiny: Builder
    batch_sizes: tuple[int, int]
    loop_free: Callable[[Any], Builder] | None = None
