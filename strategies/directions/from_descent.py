import contextlib
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, PRNGKeyArray, PyTree

import curvopt


class FromDescent(curvopt.AbstractDirection):
    r"""A descent of Optimistix as a direction: $u$ is its step of size one.

    It works for descents that need only the value and the gradient, and whose step is
    proportional to the step size: `optx.SteepestDescent` and `optx.NonlinearCGDescent`.
    `optx.NewtonDescent` and the damped descents need a Hessian, which directions do not
    have; [`strategies.LBFGS`][] and [`strategies.HyperplaneSearch`][] are the nearest
    replacements. `optx.DoglegDescent` does not follow a line.

    **Arguments:**

    - `descent`: an `optimistix.AbstractDescent`.

    **Raises:**

    `ValueError` if it is not such a descent, or needs more than value and gradient.
    """

    descent: optx.AbstractDescent

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> Any:
        del key
        value = jnp.zeros((), curvopt.scalar_dtype(y))
        struct = eqx.filter_eval_shape(lambda: optx.FunctionInfo.EvalGrad(value, y))
        with _explained(self.descent):
            state = self.descent.init(y, struct)
        return jax.tree.map(jnp.asarray, state)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: Any
    ) -> tuple[curvopt.Descent, Any]:
        info = optx.FunctionInfo.EvalGrad(model.value, model.grad)
        with _explained(self.descent):
            state = self.descent.query(y, info, state)
            direction, _ = self.descent.step(jnp.ones((), curvopt.scalar_dtype(y)), state)
        return curvopt.Descent(direction), state


@contextlib.contextmanager
def _explained(descent: optx.AbstractDescent) -> Iterator[None]:
    """Translate Optimistix's errors about missing information into terms of directions."""
    try:
        yield
    except (ValueError, AttributeError, AssertionError) as error:
        raise ValueError(
            f"{type(descent).__name__} cannot be used as a direction: it needs more than "
            "the value and the gradient. Take optx.SteepestDescent, "
            "optx.NonlinearCGDescent, or strategies.LBFGS."
        ) from error
