"""The curvature by three sweeps, and the variants of the third sweep."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree, Scalar

from .. import _sharding
from .._tree import tree_fill
from ._equation import AbstractSweep
from ._model import AbstractCurvatureMethod, CurvatureReport, Loss, QuadraticModel
from ._primitive import PrimitiveEquation
from ._products import ProductRule, Products
from ._rules import tangents_along
from ._stack import along_each, fill, Stack
from ._tape import record, Recorded


class Curvature(AbstractSweep):
    r"""The third sweep: tangents $\dot z$, adding up
    $\langle \hat z, D^2F[\dot z, \dot z] \rangle$."""

    products: ProductRule
    stack: tuple[int, ...] = eqx.field(static=True, default=(), kw_only=True)

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        return equation.rule.tangent(equation.function, tuple(carried), kept, self.products)

    def instantiate(
        self, carried: PyTree, struct: _sharding.Struct, entering: list[PyTree]
    ) -> PyTree:
        return _sharding.zeros(struct) if carried is None else carried


class SplitCurvature(AbstractSweep):
    r"""The third sweep if a `custom_vjp` makes tangents and duals differ: it carries pairs
    $(\dot z, d)$, of the same array twice until they differ."""

    products: ProductRule
    stack: tuple[int, ...] = eqx.field(static=True, default=(), kw_only=True)

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        dx, dual = (tuple(c[k] for c in carried) for k in (0, 1))
        # Identity, not equality: before the first `custom_vjp` the cheap rule applies.
        if all(a is b for a, b in zip(dx, dual)) and not equation.splits:
            tangents, term = equation.rule.tangent(
                equation.function, dx, kept, self.products
            )
            duals = tangents
        else:
            tangents, duals, term = equation.rule.split(equation.function, dx, dual, kept)
        return list(zip(tangents, duals, strict=True)), term

    def instantiate(
        self, carried: PyTree, struct: _sharding.Struct, entering: list[PyTree]
    ) -> PyTree:
        if carried is None:
            zeros = _sharding.zeros(struct)
            return zeros, zeros
        return carried


class CurvatureMatrix(AbstractSweep):
    r"""The third sweep along several vectors at once, adding up the matrix
    $\langle \hat z, D^2F[\dot z_i, \dot z_j] \rangle$. Each value carries a `Stack`."""

    products: ProductRule
    stack: tuple[int, ...] = eqx.field(static=True, kw_only=True)

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        f, how = equation.function, self.products
        # A linear equation keeps no adjoints, nor does one whose term is left out.
        term = equation.rule.gram(f, carried, kept, how) if kept else self.zero()
        return tangents_along(f, carried, how), term

    def instantiate(
        self, carried: PyTree, struct: _sharding.Struct, entering: list[PyTree]
    ) -> PyTree:
        return fill(carried, struct, entering)


def matrix_along(
    recorded: Recorded,
    kept: list[PyTree],
    how: ProductRule,
    us: Sequence[PyTree[Array | None]],
) -> Array:
    """The curvature matrix of several vectors, by one third sweep along all of them."""
    columns = list(zip(*map(recorded.treedef.flatten_up_to, us)))
    if not recorded.tape.splits:
        sweep = CurvatureMatrix(how, stack=(len(us),))
        return recorded.sweep(sweep, kept, map(Stack.of, columns))[0]

    # Duals along one vector, tangents along the other: one sweep for each pair. The rows
    # are for the duals: with a custom backward rule H need not be symmetric.
    def along(u: Sequence[Array], dual: Sequence[Array]) -> Scalar:
        return recorded.sweep(SplitCurvature(how), kept, zip(u, dual))[0]

    stacks = [
        jnp.stack(tree_fill(list(column), [leaf] * len(us)))
        for leaf, column in zip(recorded.leaves, columns)
    ]
    row = lambda u: along_each(lambda dual: along(u, dual), stacks)
    return along_each(row, stacks).T


class AdjointCurvature(AbstractCurvatureMethod):
    r"""The curvature by three sweeps: forward, backward, and forward again.

    The third sweep carries the tangents along $u$ and adds up
    $\langle u, H u \rangle = \sum_i \langle \hat z_i, D^2F_i[\dot z, \dot z] \rangle$
    over the equations of the loss, with the adjoints $\hat z$ kept from the gradient. It is
    exact. Counted in sweeps, it costs half a gradient more and twice a gradient's memory,
    as the abstract of arXiv 2210.14520 states; its form on jaxprs is this project's.

    **Arguments:**

    - `products`: how many products the third sweep uses for a product of two active values.
        `"three"` is the textbook form. `"two"` saves one: it is exact up to rounding, with
        a bound about twice that of three. `"auto"` (the default) uses two where they cost
        less and round as float32 or better: not in bfloat16, not on an accelerator where
        float32 products may be rounded to TF32 or bfloat16, and not where the product is so
        small that it costs less than the extra sums.
    - `product_dtype`: a narrower dtype, such as `jnp.bfloat16`, to which the third sweep
        rounds the operands of its matrix products and convolutions; they accumulate in the
        dtype of the result. Value and gradient are unaffected. `None` (the default) rounds
        nothing. With bfloat16 and `products="two"` the curvature of the workloads of
        `python -m experiments accelerator` is within 4e-4 of float64, and the sweep is at
        its cheapest.

    **Raises:**

    `TypeError` naming the primitive and its line in the loss, if jax cannot differentiate
    it.
    """

    products: Products = eqx.field(static=True, default="auto")
    product_dtype: Any = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        ProductRule(self.products, self.product_dtype)

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        how = ProductRule(self.products, self.product_dtype)
        recorded = record(lambda y: fn(y, args), y)
        tape = recorded.tape
        grad, kept = recorded.gradient()

        def curvature(u: PyTree[Array]) -> Scalar:
            leaves = jtu.tree_leaves(u)
            if tape.splits:
                pairs = zip(leaves, leaves)
                return recorded.sweep(SplitCurvature(how), kept, pairs)[0]
            return recorded.sweep(Curvature(how), kept, leaves)[0]

        return QuadraticModel(
            value=recorded.value,
            grad=grad,
            aux=recorded.aux,
            loss=lambda y: fn(y, args)[0],
            curvature=curvature,
            curvature_matrix=partial(matrix_along, recorded, kept, how),
            report=lambda: CurvatureReport.of(tape, how),
        )
