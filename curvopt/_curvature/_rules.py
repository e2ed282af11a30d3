r"""Rules for how a primitive equation contributes to the sweeps, and a table of which
primitive has which rule. Users add to it with `register_rule`.

For the equation $F$ with inputs $x$, tangents $\dot x$ and adjoints $\hat z$ of the
outputs, a rule gives the tangents of the outputs $DF[\dot x]$ with the term
$\langle \hat z, D^2F[\dot x, \dot x] \rangle$, and the like for the other sweeps.

`Generic` is exact for everything that jax can differentiate forward twice. The others
are optimisations, and are tested against it.

**Custom backward rules.** A `jax.custom_vjp` (gradient clipping, say) replaces $DF^*$ by
any $B(x, \hat z)$, which need be neither linear in $\hat z$ nor the transpose of anything.
The Hessian is then the derivative of what the backward sweep computes, and $u$ propagates
in two ways that need not agree: as tangents $\dot x$ of the values, and as duals $d$, the
transpose of how adjoints change. With $\hat x = B(x, \hat z)$,

$$\langle d_x, \tfrac{d}{dt} \hat x \rangle
= \langle d_x, \partial_x B[\dot x] \rangle
+ \langle d_z, \tfrac{d}{dt} \hat z \rangle,
\qquad d_z = (\partial_{\hat z} B)^* d_x ,$$

whose first term is the equation's contribution to $\langle u, H u \rangle$. For an ordinary
equation downstream of such a rule, $B = DF^*$, the term is
$\langle \hat z, D^2F[\dot x, d] \rangle$ and $d_z = DF[d]$. (This derivation is the
project's own.)
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jaxtyping import Array, Scalar

from .. import _sharding
from .._checks import check_choice, check_instance
from .._compat import primitive_name
from .._tree import at_least_float32, tree_dot
from ._equation import Arrays
from ._products import ProductRule, three_products, two_products
from ._program import AbstractOperation, is_variable, Operation
from ._refs import check_refs_of_scans
from ._rewrites import is_elementwise
from ._stack import along_each, groups, inner_products, Stack


def _zero() -> Scalar:
    return jnp.zeros((), jnp.float32)


def _sum(x: Array, axes: Sequence[int]) -> Array:
    """The sum over `axes` of an array that is cheap to compute, so that XLA need not store
    it.

    On CPUs XLA passes a sum to a library together with every array of the chain that leads
    to it, all written to memory. A product with ones makes it write only the summand.
    """
    is_wide = x.dtype in (jnp.float32, jnp.float64)
    if not axes or not x.size or not is_wide or jax.default_backend() != "cpu":
        return jnp.sum(x, axes)
    if len(axes) == x.ndim:  # XLA makes a sum of a product of two vectors
        return jnp.sum(_sum(x, axes[1:]))
    ones = jnp.ones([x.shape[k] for k in axes], x.dtype)
    return jnp.tensordot(x, ones, (axes, tuple(range(len(axes)))))


def _pairing(adjoint: Arrays, second: Arrays) -> Scalar:
    r"""$\langle \hat z, s \rangle$ for an $s$ that is cheap to compute."""
    if jax.default_backend() != "cpu" or any(map(_sharding.is_split, second)):
        return tree_dot(adjoint, second)
    total = jnp.zeros((), jnp.float32)
    for a, s in zip(adjoint, second, strict=True):
        summand = jnp.real(at_least_float32(a) * at_least_float32(s))
        total = _sharding.add_parts(total, _sum(summand, tuple(range(summand.ndim))))
    return total


class PrimitiveFunction(eqx.Module):
    """An operation as the function $F(x)$ of its *active* operands, those that depend on
    the parameters. It is all that a rule sees of an equation."""

    operation: AbstractOperation = eqx.field(static=True)
    active: tuple[int, ...] = eqx.field(static=True)
    # The outputs that the loss depends on.
    chosen: tuple[int, ...] = eqx.field(static=True)
    operands: tuple[Any, ...]
    # The operands that are the same in all iterations of a loop around the equation.
    invariant: tuple[int, ...] = eqx.field(static=True, default=())
    # $F(x)$, set by the first sweep, and whether another equation keeps its first.
    values: Arrays = ()
    is_kept: bool = eqx.field(static=True, default=True)

    @property
    def primals(self) -> Arrays:
        """$x$."""
        return tuple(self.operands[k] for k in self.active)

    def of(self, places: Sequence[int]) -> "PrimitiveFunction":
        """The same as a function of some of its active operands."""
        return dataclasses.replace(self, active=tuple(self.active[k] for k in places))

    def bind(
        self, *primals: Array, product_dtype: Any = None
    ) -> tuple[Arrays, Sequence[Array]]:
        """The chosen outputs, and all outputs."""
        operands = list(self.operands)
        for k, primal in zip(self.active, primals, strict=True):
            operands[k] = primal
        outs = self.operation.bind(*operands, product_dtype=product_dtype)
        return tuple(outs[k] for k in self.chosen), outs

    def __call__(self, *primals: Array) -> Arrays:
        return self.bind(*primals)[0]

    def pullback(self, adjoint: Arrays) -> Arrays:
        r"""$DF^*[\hat z]$, from the operands alone."""
        return jax.vjp(self, *self.primals)[1](adjoint)

    def rounded(self, how: ProductRule) -> Callable[..., Arrays]:
        """The same function with the operands of products rounded to `how.dtype`."""
        return lambda *primals: self.bind(*primals, product_dtype=how.dtype)[0]


class AbstractRule(eqx.Module):
    """The contribution of an equation to each of the sweeps."""

    @abc.abstractmethod
    def label(self, f: PrimitiveFunction, how: ProductRule) -> str:
        """The rule's name in a report."""

    @abc.abstractmethod
    def tangent(
        self, f: PrimitiveFunction, dx: Arrays, adjoint: Arrays, how: ProductRule
    ) -> tuple[Arrays, Scalar]:
        r"""$DF[\dot x]$ and $\langle \hat z, D^2F[\dot x, \dot x] \rangle$."""

    @abc.abstractmethod
    def split(
        self, f: PrimitiveFunction, dx: Arrays, dual: Arrays, adjoint: Arrays
    ) -> tuple[Arrays, Arrays, Scalar]:
        r"""Tangents, duals and the term, for tangents and duals that differ."""

    @abc.abstractmethod
    def second(
        self,
        f: PrimitiveFunction,
        dx: Arrays,
        ddx: Sequence[Array | None],
        how: ProductRule,
    ) -> tuple[Arrays, Sequence[Array | None]]:
        r"""$\dot z = DF[\dot x]$ and $\ddot z = DF[\ddot x] + D^2F[\dot x, \dot x]$;
        `None` is a second tangent known to be zero."""

    @abc.abstractmethod
    def gram(
        self, f: PrimitiveFunction, dx: Sequence[Stack], adjoint: Arrays, how: ProductRule
    ) -> Array:
        r"""For several vectors at once, the matrix
        $\langle \hat z, D^2F[\dot x_i, \dot x_j] \rangle$."""


def _known(ddx: Sequence[Array | None], dx: Arrays) -> Arrays:
    return tuple(_sharding.zeros_like(d) if dd is None else dd for d, dd in zip(dx, ddx))


def tangents_along(
    f: PrimitiveFunction, dx: Sequence[Stack], how: ProductRule
) -> list[Stack]:
    r"""$DF[\dot x]$ for several vectors at once: for each, the derivative in the operands
    that move along it."""
    parts, order = [], []
    for vectors, places in groups(dx):
        own = f.of(places)
        fn, x = own.rounded(how), own.primals
        along = lambda d, fn=fn, x=x: jax.jvp(fn, x, d)[1]
        parts.append(along_each(along, tuple(dx[k].along(vectors) for k in places)))
        order += vectors
    arrays = [p[0] if len(p) == 1 else jnp.concatenate(p) for p in zip(*parts)]
    return [Stack(array, tuple(order), dx[0].count) for array in arrays]


class Linear(AbstractRule):
    """$D^2F = 0$ (almost everywhere): the tangent, with nothing to add."""

    def label(self, f: PrimitiveFunction, how: ProductRule) -> str:
        return "linear"

    def along(self, f: PrimitiveFunction, dx: Arrays, how: ProductRule) -> Arrays:
        r"""$DF[\dot x]$."""
        return jax.jvp(f.rounded(how), f.primals, dx)[1]

    def tangent(self, f, dx, adjoint, how):
        return self.along(f, dx, how), _zero()

    def split(self, f, dx, dual, adjoint):
        exact = ProductRule()
        return self.along(f, dx, exact), self.along(f, dual, exact), _zero()

    def second(self, f, dx, ddx, how):
        tangents = self.along(f, dx, how)
        if all(dd is None for dd in ddx):
            return tangents, [None] * len(tangents)
        return tangents, self.along(f, _known(ddx, dx), how)

    def gram(self, f, dx, adjoint, how):
        return _zero()


class Sum(Linear):
    """A sum over axes."""

    def along(self, f, dx, how):
        if _sharding.is_split(dx[0]):
            return super().along(f, dx, how)
        axes = map(int, f.operation.members[0].eqn.params["axes"])
        return (_sum(dx[0], tuple(axes)),)


class Bilinear(AbstractRule):
    r"""$F(x_1, x_2)$ linear in each: $D^2F[\dot x, \dot x] = 2 F(\dot x_1, \dot x_2)$."""

    def label(self, f: PrimitiveFunction, how: ProductRule) -> str:
        if not f.operation.is_product:
            return "bilinear"
        return f"bilinear, {'two' if self._uses_two(f, how) else 'three'} products"

    def _uses_two(self, f: PrimitiveFunction, how: ProductRule) -> bool:
        return how.uses_two(f.operation, f.invariant, f.is_kept)

    def _products(self, f, dx, how):
        product = lambda a, b: f.rounded(how)(a, b)[0]
        if self._uses_two(f, how):
            options = {"dtype": how.dtype, "invariant": f.invariant}
            return two_products(product, f.values[0], f.primals, dx, **options)
        return three_products(product, f.primals, dx)

    def tangent(self, f, dx, adjoint, how):
        tangent, q = self._products(f, dx, how)
        return (tangent,), 2 * tree_dot(adjoint[0], q)

    def split(self, f, dx, dual, adjoint):
        x = f.primals
        along = lambda d: jax.jvp(f, x, d)[1]
        (a,), (b,) = f(dx[0], dual[1]), f(dual[0], dx[1])
        return along(dx), along(dual), tree_dot(adjoint[0], a + b)

    def second(self, f, dx, ddx, how):
        tangent, q = self._products(f, dx, how)
        (x1, x2), (ddx1, ddx2), fn = f.primals, ddx, f.rounded(how)
        second = 2 * q
        if ddx1 is not None:
            second = second + fn(ddx1, x2)[0]
        if ddx2 is not None:
            second = second + fn(x1, ddx2)[0]
        return (tangent,), (second,)

    def gram(self, f, dx, adjoint, how):
        fn, x = f.rounded(how), f.primals
        # A product for each vector of one operand, and inner products of the results with
        # the tangents of the other: a product for each pair would be many more.
        few = int(len(dx[1].vectors) <= len(dx[0].vectors))
        many = 1 - few

        def half(d: Array) -> Array:
            """The transpose of $F$, with one operand fixed, at the adjoint."""
            fixed = lambda z: fn(*((z, d) if few else (d, z)))
            _, pullback = jax.vjp(fixed, x[many])
            return pullback(adjoint)[0]

        halves = dataclasses.replace(dx[few], array=along_each(half, dx[few].array))
        # $D^2F$ is symmetric: both orders of the two vectors count.
        matrix = inner_products(dx[many], halves)
        return matrix + matrix.T


class Generic(AbstractRule):
    r"""Any operation: `jvp` of `jvp` gives $DF[\dot x]$ and $D^2F[\dot x, \dot x]$."""

    name: str = eqx.field(static=True, default="generic")

    def label(self, f: PrimitiveFunction, how: ProductRule) -> str:
        return self.name

    # `how` is not read here: it is for matrix products, which have rules of their own.
    def tangent(self, f, dx, adjoint, how):
        x = f.primals
        tangents, second = jax.jvp(lambda *x: jax.jvp(f, x, dx)[1], x, dx)
        return tangents, _pairing(adjoint, second)

    def split(self, f, dx, dual, adjoint):
        x = f.primals
        (_, duals), (tangents, second) = jax.jvp(lambda *x: jax.jvp(f, x, dual), x, dx)
        return tangents, duals, _pairing(adjoint, second)

    def second(self, f, dx, ddx, how):
        x = f.primals
        if all(dd is None for dd in ddx):
            return jax.jvp(lambda *x: jax.jvp(f, x, dx)[1], x, dx)
        along = lambda x, dx: jax.jvp(f, x, dx)[1]
        return jax.jvp(along, (x, dx), (dx, _known(ddx, dx)))

    def gram(self, f, dx, adjoint, how):
        total = _zero()
        for vectors, places in groups(dx):
            own = f.of(places)

            def adjoints(*x: Array, places: Sequence[int] = places) -> Arrays:
                """Those of all operands, at other values of some of them."""
                moved = dict(zip(places, x, strict=True))
                x = tuple(moved.get(k, other) for k, other in enumerate(f.primals))
                return jax.vjp(f, *x)[1](adjoint)

            # Forward over reverse: one product per vector gives a whole row of the matrix.
            along = lambda d, x=own.primals, fn=adjoints: jax.jvp(fn, x, d)[1]
            products = along_each(along, tuple(dx[k].along(vectors) for k in places))
            for stack, product in zip(dx, products, strict=True):
                rows = Stack(product, vectors, stack.count)
                total = _sharding.add_parts(total, inner_products(stack, rows))
        return total


class ReverseOverReverse(AbstractRule):
    r"""An equation that contains a `custom_vjp`, by reverse mode alone.

    With $G(x, \hat z) = \langle d_x, B(x, \hat z) \rangle$, one gradient gives the term
    $\langle \partial_x G, \dot x \rangle$ and the duals $\partial_{\hat z} G$. The tangents
    are those of the values that the forward rule computes, by transposing twice. Forward
    mode is not used: a forward rule that calls the function itself, as is common, has none.
    """

    def label(self, f: PrimitiveFunction, how: ProductRule) -> str:
        return "reverse over reverse"

    def split(self, f, dx, dual, adjoint):
        x = f.primals

        def values(*x: Array) -> Arrays:
            return jax.vjp(f, *x)[0]

        def paired(x: Arrays, adjoint: Arrays) -> Scalar:
            _, pullback = jax.vjp(f, *x)
            return tree_dot(pullback(adjoint), dual)

        def paired_values(adjoint: Arrays) -> Scalar:
            _, pullback = jax.vjp(values, *x)
            return tree_dot(pullback(adjoint), dx)

        check_refs_of_scans(jax.make_jaxpr(paired)(x, adjoint))
        along_x, duals = jax.grad(paired, argnums=(0, 1))(x, adjoint)
        tangents = jax.grad(paired_values)(adjoint)
        return tangents, duals, tree_dot(along_x, dx)

    def _refuse(self, f: PrimitiveFunction) -> Any:
        raise TypeError(
            f"{f.operation.described} is or contains a jax.custom_vjp, which has "
            "no forward mode. Use curvature=curvopt.AdjointCurvature(), which needs none; "
            "or, if its backward rule has no derivative (Diffrax's default adjoint), "
            "curvature=curvopt.FiniteDifferenceCurvature()."
        )

    def tangent(self, f, dx, adjoint, how):
        return self._refuse(f)

    def second(self, f, dx, ddx, how):
        return self._refuse(f)

    def gram(self, f, dx, adjoint, how):
        return self._refuse(f)


# The known rules, by name of the primitive. All others are left to jax's derivatives.
_TABLE: dict[str, Literal["linear", "bilinear"] | int] = {
    # Linear in all their floating-point operands jointly, or piecewise linear, which is the
    # same wherever a second derivative exists.
    **dict.fromkeys(
        "add add_any broadcast_in_dim complex concatenate convert_element_type copy "
        "cumsum dynamic_slice dynamic_update_slice fft gather imag name neg "
        "optimization_barrier pad real reduce_precision reduce_sum reduce_window_sum "
        "reshape rev scatter scatter-add scatter-sub select_and_scatter_add select_n "
        "sharding_constraint slice split squeeze sub transpose "
        "abs clamp cummax cummin max min reduce_max reduce_min sort top_k".split(),
        "linear",
    ),
    # Linear in each of two operands, so linear if only one of them is active.
    **dict.fromkeys(("conv_general_dilated", "dot_general", "mul"), "bilinear"),
    # Linear in the operand of that index, if no other operand is active.
    "div": 0,
    "triangular_solve": 1,
}

# Not linear for complex operands.
_REAL_ONLY = frozenset({"abs", "max", "min", "clamp", "reduce_max", "reduce_min", "sort"})


def register_rule(
    primitive: jex.Primitive,
    rule: Literal["linear", "bilinear"],
    operand: int | None = None,
) -> None:
    r"""Declare your own primitive as linear or bilinear, to save its second derivative.

    ```python
    curvopt.register_rule(my_stencil_p, "linear")
    ```

    Without a rule a primitive is `generic`: exact, at the cost of a `jvp` of its `jvp`. A
    false rule makes the curvature wrong. Programs that are already compiled do not change.
    `model.report()` says which rule each equation used.

    **Arguments:**

    - `primitive`: a primitive that jax can differentiate. Rules are found by its name.
    - `rule`: `"linear"` for $D^2F = 0$; `"bilinear"` for an $F(x_1, x_2)$ of two operands
        and one output that is linear in each,
        $D^2F[\dot x, \dot x] = 2 F(\dot x_1, \dot x_2)$.
    - `operand`: for `"linear"`, the index of the one operand in which it is linear (a solve
        is linear in its right-hand side). `None` (the default): in all floating-point
        operands jointly.

    **Raises:**

    `ValueError` if a primitive of that name has another rule, if there is no such rule, or
    if a bilinear primitive is given an `operand`.
    """
    check_instance("primitive", primitive, jex.Primitive)
    check_choice("rule", rule, ("linear", "bilinear"))
    if operand is not None and (type(operand) is not int or operand < 0):
        raise ValueError(
            f"operand must be None or an operand's index from 0, but it is {operand!r}."
        )
    if rule == "bilinear" and operand is not None:
        raise ValueError(
            f"operand must be None for a bilinear primitive, but it is {operand!r}."
        )
    entry = rule if operand is None else operand
    if _TABLE.setdefault(primitive.name, entry) != entry:
        raise ValueError(
            f"a primitive named {primitive.name!r} already has another rule, "
            f"{_TABLE[primitive.name]!r}. Give yours another name."
        )


def find_rule(operation: AbstractOperation, active: Sequence[int]) -> AbstractRule:
    """The cheapest exact rule for an operation whose operands with indices `active` depend
    on the parameters."""
    if len(operation.members) == 1:
        return _rule_of_member(operation.members[0], active)
    # A chain is linear if all its members are.
    reached = {operation.invars[k] for k in active}
    for member in operation.members:
        own = [k for k, v in enumerate(member.invars) if is_variable(v) and v in reached]
        if own and any(v.is_differentiable for v in member.outvars):
            if not isinstance(_rule_of_member(member, own), Linear):
                return Generic("elementwise")
            reached.update(v for v in member.outvars if v.is_differentiable)
    return Linear()


def _rule_of_member(member: Operation, active: Sequence[int]) -> AbstractRule:
    name = primitive_name(member.eqn)
    entry = _TABLE.get(name)
    if entry == "linear" and not (name in _REAL_ONLY and member.is_complex):
        return Sum() if name == "reduce_sum" else Linear()
    if entry == "bilinear":
        return Bilinear() if len(active) == 2 else Linear()
    if list(active) == [entry]:
        return Linear()
    if member.contains("custom_vjp_call"):
        return ReverseOverReverse()
    return Generic("elementwise") if is_elementwise(member) else Generic()
