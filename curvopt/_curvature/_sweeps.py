"""The sweeps that run forward over a tape, beside what they carry with each value."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .. import _compat
from ._equation import AbstractSweep
from ._primitive import PrimitiveEquation
from ._products import ProductRule


def _scalar_zero() -> Array:
    return jnp.zeros((), jnp.float32)


class FirstOrder(AbstractSweep):
    r"""The tangents $\dot z$ alone."""

    leading: ClassVar[int] = 0

    products: ProductRule

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        fn = equation.bind_as(self.products)
        return list(jax.jvp(fn, equation.primals, tuple(carried))[1]), _scalar_zero()

    def instantiate(self, carried: PyTree, struct: _compat.Struct) -> PyTree:
        return _compat.zeros(struct) if carried is None else carried

    def zero(self) -> Array:
        return _scalar_zero()


class SecondOrder(AbstractSweep):
    r"""Tangents and second tangents: $(\dot z, \ddot z)$; `None` is a second tangent that
    is known to be zero, as those of the parameters are."""

    leading: ClassVar[int] = 0

    products: ProductRule

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        dx, ddx = (tuple(c[k] for c in carried) for k in (0, 1))
        first, second = equation.rule.second(equation, dx, ddx, self.products)
        return list(zip(first, second, strict=True)), _scalar_zero()

    def instantiate(self, carried: PyTree, struct: _compat.Struct) -> PyTree:
        zeros = lambda x: _compat.zeros(struct) if x is None else x
        first, second = (None, None) if carried is None else carried
        return zeros(first), zeros(second)

    def zero(self) -> Array:
        return _scalar_zero()


class Curvature(AbstractSweep):
    r"""The third sweep: tangents $\dot z$, adding up
    $\langle \hat z, D^2F[\dot z, \dot z] \rangle$."""

    leading: ClassVar[int] = 0

    products: ProductRule

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        return equation.rule.tangent(equation, tuple(carried), kept, self.products)

    def instantiate(self, carried: PyTree, struct: _compat.Struct) -> PyTree:
        return _compat.zeros(struct) if carried is None else carried

    def zero(self) -> Array:
        return _scalar_zero()


class SplitCurvature(AbstractSweep):
    r"""The third sweep where a `custom_vjp` sets tangents and duals apart: $(\dot z, d)$,
    the same two arrays until it does."""

    leading: ClassVar[int] = 0

    products: ProductRule

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        dx, dual = (tuple(c[k] for c in carried) for k in (0, 1))
        if all(a is b for a, b in zip(dx, dual)) and not equation.splits:
            tangents, term = equation.rule.tangent(equation, dx, kept, self.products)
            duals = tangents
        else:
            tangents, duals, term = equation.rule.split(equation, dx, dual, kept)
        return list(zip(tangents, duals, strict=True)), term

    def instantiate(self, carried: PyTree, struct: _compat.Struct) -> PyTree:
        if carried is None:
            zeros = _compat.zeros(struct)
            return zeros, zeros
        return carried

    def zero(self) -> Array:
        return _scalar_zero()


class CurvatureMatrix(AbstractSweep):
    r"""The third sweep along $k$ directions at once, stacked along the first axis, adding
    up the matrix $\langle \hat z, D^2F[\dot z_i, \dot z_j] \rangle$."""

    leading: ClassVar[int] = 1

    products: ProductRule
    size: int = eqx.field(static=True)

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        return equation.rule.gram(equation, tuple(carried), kept, self.products)

    def instantiate(self, carried: PyTree, struct: _compat.Struct) -> PyTree:
        return (
            jnp.stack([_compat.zeros(struct)] * self.size) if carried is None else carried
        )

    def zero(self) -> Array:
        return jnp.zeros((self.size, self.size), jnp.float32)
