import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from .._instance import Instance


# Maps a batch size to a loss with parameters and synthetic data, always the same.
Builder: TypeAlias = Callable[[int], Instance]


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model to measure on.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `full`: builds it at its real size.
    - `tiny`: builds it at a tiny size, for smoke tests.
    - `batch_sizes`: the smaller and the larger batch size.
    - `loop_free`: maps a builder to one without loops, on which FLOPs are counted, since
        XLA counts the body of a loop once.
    """

    label: str
    full: Builder
    tiny: Builder
    batch_sizes: tuple[int, int]
    loop_free: Callable[[Any], Builder] | None = None
