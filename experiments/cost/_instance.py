from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from jaxtyping import Array, PyTree, Scalar


# `loss(y, args) -> (scalar, aux)`.
Loss: TypeAlias = Callable[[PyTree, Any], tuple[Scalar, PyTree]]


class Instance(NamedTuple):
    """A loss, and where it is to be expanded.

    **Attributes:**

    - `loss`: `loss(y, args) -> (scalar, aux)`.
    - `y`: the parameters, arrays in float32.
    - `args`: a tuple of the batch and whatever else the loss needs.
    """

    loss: Loss
    y: PyTree[Array]
    args: PyTree[Array]
