import abc
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from ._checks import check_state
from ._declared import cast_hyperparameters, Declared
from ._tree import at_least_float32, promotion, scalar_dtype, tree_copy


class AverageState(eqx.Module):
    """The average of the points so far, in float32 or wider, and the state of what computes
    it."""

    point: PyTree[Array]
    state: Any


class AbstractAverage(Declared):
    """An average of the points of a run, which a solver returns in place of the last one.
    The steps do not see it.

    Declare its fields with [`curvopt.hyperparameter`][]. An average that needs more than
    its own last value implements `init` as well.
    """

    def init(self, y: PyTree[Array]) -> Any:
        """The state before the first step; `None` by default.

        **Arguments:**

        - `y`: the initial parameters, which are the average before the first step.

        **Returns:**

        A pytree of arrays.
        """
        del y

    @abc.abstractmethod
    def step(
        self, y: PyTree[Array], direction: Any, average: PyTree[Array], state: Any
    ) -> tuple[PyTree[Array], Any]:
        """The average after a step.

        **Arguments:**

        - `y`: the point where the step ended.
        - `direction`: the state of the direction after the step.
        - `average`: the average before the step, like `y` in float32 or wider.
        - `state`: what `init` or the last `step` returned.

        **Returns:**

        The new average and the new state, of the same structures and shapes.
        """

    def checked_init(self, y: PyTree[Array]) -> AverageState:
        """The average before the first step, as a solver keeps it."""
        with promotion():
            state = cast_hyperparameters(self, scalar_dtype(y)).init(y)
        point = jtu.tree_map(at_least_float32, y)
        return tree_copy(AverageState(point, state))

    def checked_step(
        self, y: PyTree[Array], direction: Any, state: AverageState
    ) -> AverageState:
        """`step` as a solver calls it: hyper-parameters take the dtype of the scalars, and
        the returned values are checked.

        **Raises:**

        `ValueError` naming the class and what it returned.
        """
        name = type(self).__name__
        with promotion():
            own = cast_hyperparameters(self, scalar_dtype(y))
            out = own.step(y, direction, state.point, state.state)
        if not (isinstance(out, tuple) and len(out) == 2):
            raise ValueError(
                f"{name}.step must return (average, state), but it returned {out!r}."
            )
        return check_state(name, AverageState(*out), state)
