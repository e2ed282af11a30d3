import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray, PyTree

from ._curvature import QuadraticModel
from ._describe import readable


class Descent(eqx.Module):
    r"""What a direction proposes.

    **Attributes:**

    - `direction`: $u$, what will be followed: $y^+ = y + \tau u$.
    - `fresh`: what this gradient alone contributes to it, in the direction's own
        preconditioner: $-g$ for momentum, $-g / (\sqrt{\hat v} + \epsilon)$ for Adam.
        A direction with memory repeats itself for about $1/(1-\beta)$ steps; a line
        search may measure along its fresh part instead. Default: `direction`.

    Both are pytrees like the parameters, in any floating dtypes.
    """

    direction: PyTree[Array]
    fresh: PyTree[Array]

    def __init__(self, direction: PyTree[Array], fresh: PyTree[Array] | None = None):
        self.direction = direction
        self.fresh = direction if fresh is None else fresh


class AbstractDirection(eqx.Module):
    """Which way: turns the model of the loss at a point into a direction.

    A direction that never reads `model.grad` says so by a class variable
    `reads_gradient: ClassVar[bool] = False`: then no backward sweep is made for the record
    of the gradient's norm alone. What it wraps is asked as well.
    """

    def __repr__(self) -> str:
        return readable(self)

    @abc.abstractmethod
    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> Any:
        """The state before the first step.

        **Arguments:**

        - `y`: the initial parameters.
        - `key`: randomness of this direction's own, if it needs any.

        **Returns:**

        A pytree of arrays.
        """

    @abc.abstractmethod
    def step(
        self, model: QuadraticModel, y: PyTree[Array], state: Any
    ) -> tuple[Descent, Any]:
        """Propose a direction.

        **Arguments:**

        - `model`: the loss at `y`. `model.grad` is paid for when it is read.
        - `y`: the parameters.
        - `state`: what `init` or the last `step` returned.

        **Returns:**

        A [`curvopt.Descent`][] and the new state, of the same structure and dtypes.
        """


def reads_gradient(direction: AbstractDirection) -> bool:
    """Whether a direction, or one which it wraps, reads the gradient."""
    values = [getattr(direction, field.name) for field in dataclasses.fields(direction)]
    is_direction = lambda x: isinstance(x, AbstractDirection)
    inner = filter(is_direction, jtu.tree_leaves(values, is_leaf=is_direction))
    own = getattr(direction, "reads_gradient", True)
    return own or any(reads_gradient(x) for x in inner)
