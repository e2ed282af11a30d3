import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray, PyTree

from ._checks import check_direction, check_state
from ._curvature import QuadraticModel
from ._declared import cast_hyperparameters, Declared
from ._tree import promotion, scalar_dtype, tree_copy


class Descent(eqx.Module):
    r"""The vector that a direction proposes, and its fresh part.

    **Attributes:**

    - `u`: the vector that the step follows, $y^+ = y + \tau u$.
    - `fresh`: the part of `u` that this gradient alone contributes, in the direction's own
        preconditioner: $-g$ for momentum, $-g / (\sqrt{\hat v} + \epsilon)$ for Adam.
        A direction with memory repeats itself for about $1/(1-\beta)$ steps, so a line
        search may measure along the fresh part instead. The default is `u`.

    Both are pytrees like the parameters, in any floating dtypes.
    """

    u: PyTree[Array]
    fresh: PyTree[Array]

    def __init__(self, u: PyTree[Array], fresh: PyTree[Array] | None = None):
        self.u = u
        self.fresh = u if fresh is None else fresh


class AbstractDirection(Declared):
    """A descent direction: turns the model of the loss at a point into a vector `u`.

    Declare its fields with [`curvopt.hyperparameter`][], [`curvopt.count`][] and
    [`curvopt.schedule`][]. A direction with memory implements `init` as well.
    """

    @property
    def reads_gradient(self) -> bool:
        """Whether `step` reads `model.grad`. If it does not, no backward sweep is made just
        to record the gradient's norm."""
        return True

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> Any:
        """The state before the first step; `None` by default.

        **Arguments:**

        - `y`: the initial parameters.
        - `key`: a random key for this direction's own use.

        **Returns:**

        A pytree of arrays.
        """
        del y, key

    @abc.abstractmethod
    def step(
        self, model: QuadraticModel, y: PyTree[Array], state: Any
    ) -> tuple[Descent, Any]:
        """Propose a vector to follow.

        **Arguments:**

        - `model`: the loss at `y`. `model.grad` is paid for only if it is read.
        - `y`: the parameters.
        - `state`: what `init` or the last `step` returned.

        **Returns:**

        A [`curvopt.Descent`][] and the new state, of the same structure and shapes.
        """

    def checked_init(self, y: PyTree[Array], key: PRNGKeyArray) -> Any:
        """`init` as a solver calls it: hyper-parameters take the dtype of the scalars, and
        each array gets its own buffer, so that it can be donated."""
        with promotion():
            state = cast_hyperparameters(self, scalar_dtype(y)).init(y, key=key)
        return tree_copy(state)

    def checked_step(
        self, model: QuadraticModel, y: PyTree[Array], state: Any
    ) -> tuple[Descent, Any]:
        """`step` as a solver calls it: hyper-parameters take the dtype of the scalars, and
        the returned values are checked.

        **Raises:**

        `ValueError` naming the class and what it returned.
        """
        name = type(self).__name__
        with promotion():
            # Casts a wrapped direction as well: a wrapper calls its `step`, not this.
            out = cast_hyperparameters(self, scalar_dtype(y)).step(model, y, state)
        if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[0], Descent)):
            raise ValueError(
                f"{name}.step must return (curvopt.Descent, state), but it "
                f"returned {out!r}."
            )
        descent, new_state = out
        check_direction(descent.u, y, f"{name}.step: u")
        check_direction(descent.fresh, y, f"{name}.step: fresh")
        return descent, check_state(name, new_state, state)
