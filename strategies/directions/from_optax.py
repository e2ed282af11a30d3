import inspect
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

import curvopt


class FromOptaxState(eqx.Module):
    """The states of the transformation, and of the one of the fresh part, if there is
    one."""

    tx: Any
    fresh: Any


def _numbers(given: Any) -> dict[str, Array]:
    if not isinstance(given, dict):
        raise ValueError(
            f"hyperparameters must be a dictionary of numbers by name, but it is {given!r}."
        )
    # Strongly typed: a number and a grid of it are the same program.
    return {name: jnp.asarray(x, jnp.result_type(float)) for name, x in given.items()}


class FromOptax(curvopt.AbstractDirection):
    r"""Any `optax.GradientTransformation` as a direction: $u$ is its update.

    An optax optimiser ends with its learning rate, and its updates descend:
    `FromOptax(optax.adam(1e-3))` with `LearningRate(1.0)` is what optax does, and
    `FromOptax(optax.adam(1.0))` leaves the step size to the line search. A bare
    preconditioner ascends: write `optax.chain(optax.scale_by_adam(), optax.scale(-1.0))`.

    Transformations receive the keyword arguments that they name: `value`, `grad`,
    `value_fn`, `obj_fn` (the loss of this step as a function of the parameters) and
    `grad_fn`. What they evaluate with these is not counted in the record.

    **Arguments:**

    - `tx`: the transformation; static. Two that were made separately are compiled twice.
    - `fresh`: a second transformation without memory, whose updates are the fresh part of
        the direction. `None` (the default): the direction itself.
    - `hyperparameters`: numbers by name, for a `tx` made by `optax.inject_hyperparams`.
        They replace those in its initial state. They are data, so that a grid of them is
        one program.

    **Raises:**

    `ValueError` if one of them is not a gradient transformation, or has no such number.
    """

    tx: optax.GradientTransformation = eqx.field(static=True)
    fresh: optax.GradientTransformation | None = eqx.field(static=True, default=None)
    hyperparameters: dict[str, Array] = eqx.field(
        default_factory=dict,
        converter=_numbers,
    )

    def __check_init__(self) -> None:
        given = {"tx": self.tx} | ({} if self.fresh is None else {"fresh": self.fresh})
        for name, tx in given.items():
            if not isinstance(tx, optax.GradientTransformation):
                made = hasattr(tx, "gradient_transformation")
                remedy = f" Give {name}.gradient_transformation()." if made else ""
                raise ValueError(
                    f"{name} must be an optax.GradientTransformation, but it is "
                    f"{tx!r}.{remedy}"
                )

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> FromOptaxState:
        del key
        own = self.tx.init(y)
        if self.hyperparameters:
            try:
                own = optax.tree.set(own, **self.hyperparameters)
            except KeyError as error:
                raise ValueError(
                    f"hyperparameters must be numbers of tx's state, but {error.args[0]} "
                    "Make tx by `optax.inject_hyperparams(optax.adam)(...)`."
                ) from error
        # States may hold Python numbers, which a loop cannot carry.
        state = FromOptaxState(own, None if self.fresh is None else self.fresh.init(y))
        return jax.tree.map(jnp.asarray, state)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: FromOptaxState
    ) -> tuple[curvopt.Descent, FromOptaxState]:
        direction, own = _update(self.tx, model, y, state.tx)
        if self.fresh is None:
            return curvopt.Descent(direction), FromOptaxState(own, None)
        fresh, other = _update(self.fresh, model, y, state.fresh)
        return curvopt.Descent(direction, fresh), FromOptaxState(own, other)


def _update(
    tx: optax.GradientTransformation,
    model: curvopt.QuadraticModel,
    y: PyTree[Array],
    state: Any,
) -> tuple[PyTree[Array], Any]:
    # optax's line searches refuse keywords that `value_fn` has no use for.
    def value_fn(y: PyTree[Array], obj_fn: Any = None, grad_fn: Any = None) -> Array:
        del obj_fn, grad_fn
        return model.loss(y)

    # `optax.contrib.sam` gives `grad_fn` the number of the inner step as well.
    known = {
        "value": model.value,
        "grad": model.grad,
        "value_fn": value_fn,
        "obj_fn": model.loss,
        "grad_fn": lambda y, _: jax.grad(model.loss)(y),
    }
    tx = optax.with_extra_args_support(tx)
    asked = inspect.signature(tx.update).parameters
    # Some ask for one keyword, and cannot ignore the others as they should.
    if not any(p.kind is p.VAR_KEYWORD for p in asked.values()):
        known = {name: x for name, x in known.items() if name in asked}
    return tx.update(model.grad, state, y, **known)
