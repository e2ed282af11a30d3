from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from jaxtyping import Array, PyTree, Scalar


# `loss(y, args) -> (scalar, aux)`.
Loss: TypeAlias = Callable[[PyTree, Any], tuple[Scalar, PyTree]]


class Instance(NamedTuple):
    """A loss, and the point at which to expand it.

    **Attributes:**

    - `loss`: `loss(y, args) -> (scalar, aux)`.
    - `y`: the parameters, arrays in float32.
    - `args`: a tuple of the batch and the loss's further arguments.
    """

    loss: Loss
    y: PyTree[Array]
    args: PyTree[Array]
