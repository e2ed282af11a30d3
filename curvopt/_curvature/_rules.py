r"""How one equation contributes to the third sweep: a table that can grow.

A rule takes the equation $F$ as a function of its active inputs, the inputs $x$, their
tangents $\dot x$ and the adjoints $\hat z$ of the outputs, and returns the tangents of
the outputs $DF[\dot x]$ with the term $\langle \hat z, D^2F[\dot x, \dot x] \rangle$.

`forward_over_forward` is right for everything that jax can differentiate forward
twice. The others are optimisations, and are tested against it.

**Backward rules of a user's own.** A `jax.custom_vjp` (gradient clipping, say) replaces
$DF^*$ by any $B(x, \hat z)$, which may not be linear in $\hat z$ nor the transpose of
anything. The Hessian is then the derivative of what the backward sweep computes, and
the direction travels in two ways that need not agree: as tangents $\dot x$ of the
values, and as duals $d$, the transpose of how adjoints change. With
$\hat x = B(x, \hat z)$,

$$\langle d_x, \tfrac{d}{dt} \hat x \rangle
= \langle d_x, \partial_x B[\dot x] \rangle
+ \langle d_z, \tfrac{d}{dt} \hat z \rangle,
\qquad d_z = (\partial_{\hat z} B)^* d_x ,$$

whose first term is what the equation adds to $\langle u, H u \rangle$. For an ordinary
equation downstream of one, $B = DF^*$, the term is
$\langle \hat z, D^2F[\dot x, d] \rangle$ and $d_z = DF[d]$. Split rules take tangents
and duals apart. (This derivation is the project's own.)
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Scalar

from .. import _compat
from .._tree import tree_dot


_Arrays: TypeAlias = tuple[Array, ...]
_Fn: TypeAlias = Callable[..., _Arrays]
Rule: TypeAlias = Callable[[_Fn, _Arrays, _Arrays, _Arrays], tuple[_Arrays, Scalar]]
SplitRule: TypeAlias = Callable[
    [_Fn, _Arrays, _Arrays, _Arrays, _Arrays], tuple[_Arrays, _Arrays, Scalar]
]


def forward_over_forward(fn: _Fn, x: _Arrays, dx: _Arrays, adjoint: _Arrays):
    r"""Any primitive: `jvp` of `jvp` gives $DF[\dot x]$ and $D^2F[\dot x, \dot x]$."""
    tangents, second = jax.jvp(lambda *x: jax.jvp(fn, x, dx)[1], x, dx)
    return tangents, tree_dot(adjoint, second)


def linear(fn: _Fn, x: _Arrays, dx: _Arrays, adjoint: _Arrays):
    """$D^2F = 0$: the tangent, and nothing to add."""
    del adjoint
    return jax.jvp(fn, x, dx)[1], jnp.zeros((), jnp.float32)


def bilinear(fn: _Fn, x: _Arrays, dx: _Arrays, adjoint: _Arrays):
    r"""$F(x_1, x_2)$ linear in each: $D^2F[\dot x, \dot x] = 2 F(\dot x_1, \dot x_2)$."""
    return jax.jvp(fn, x, dx)[1], 2 * tree_dot(adjoint, fn(*dx))


def split_forward(
    fn: _Fn, x: _Arrays, dx: _Arrays, dual: _Arrays, adjoint: _Arrays
) -> tuple[_Arrays, _Arrays, Scalar]:
    r"""Any equation whose duals differ from its tangents: $\langle \hat z, D^2F[\dot x,
    d] \rangle$, with both carried on."""

    def along_dual(*x: Array) -> tuple[_Arrays, _Arrays]:
        return jax.jvp(fn, x, dual)

    (_, duals), (tangents, second) = jax.jvp(along_dual, x, dx)
    return tangents, duals, tree_dot(adjoint, second)


def split_custom_vjp(
    fn: _Fn, x: _Arrays, dx: _Arrays, dual: _Arrays, adjoint: _Arrays
) -> tuple[_Arrays, _Arrays, Scalar]:
    r"""An equation that contains a `custom_vjp`, by reverse mode alone.

    With $G(x, \hat z) = \langle d_x, B(x, \hat z) \rangle$, one gradient gives the term
    $\langle \partial_x G, \dot x \rangle$ and the duals $\partial_{\hat z} G$. The tangents
    are those of the values that the forward rule computes, transposed twice. No forward
    mode: a forward rule that calls the function itself, as is common, has none.
    """

    def values(*x: Array) -> _Arrays:
        return jax.vjp(fn, *x)[0]

    def paired(x: _Arrays, adjoint: _Arrays) -> Scalar:
        _, pullback = jax.vjp(fn, *x)
        return tree_dot(pullback(adjoint), dual)

    def paired_values(adjoint: _Arrays) -> Scalar:
        _, pullback = jax.vjp(values, *x)
        return tree_dot(pullback(adjoint), dx)

    along_x, duals = jax.grad(paired, argnums=(0, 1))(x, adjoint)
    tangents = jax.grad(paired_values)(adjoint)
    return tangents, duals, tree_dot(along_x, dx)


# Linear in all their floating-point operands together.
_LINEAR = frozenset(
    "add add_any broadcast_in_dim complex concatenate convert_element_type copy "
    "cumsum dynamic_slice gather imag neg pad real reduce_sum reshape rev "
    "select_n slice split squeeze sub transpose".split()
)

# Linear in each of two operands, so linear where only one of them is active.
_BILINEAR = frozenset({"conv_general_dilated", "dot_general", "mul"})


def find_rule(eqn: Any, active: Sequence[int]) -> Rule | None:
    """The cheapest rule that is exact for an equation whose operands number `active`
    depend on the parameters; `None` where a `custom_vjp` sets tangents and duals apart."""
    name = eqn.primitive.name
    if name in _LINEAR:
        return linear
    if name in _BILINEAR:
        return bilinear if len(active) == 2 else linear
    if name == "div" and list(active) == [0]:
        return linear
    return None if _compat.contains_custom_vjp(eqn) else forward_over_forward


def find_split_rule(eqn: Any) -> SplitRule:
    """The rule for an equation whose tangents and duals are apart, or come apart."""
    return split_custom_vjp if _compat.contains_custom_vjp(eqn) else split_forward
