r"""The products of a bilinear equation, in the third sweep.

With $F(x_1, x_2)$ known from the first sweep, the sweep needs the tangent
$T = F(\dot x_1, x_2) + F(x_1, \dot x_2)$ and $Q = F(\dot x_1, \dot x_2)$: three products,
or, since $F(x_1 + h \dot x_1, x_2 + h \dot x_2) = F(x_1, x_2) + h T + h^2 Q$, two:

$$P = F(x_1 + h \dot x_1, x_2 + h \dot x_2), \qquad
T = \big(P - F(x_1, x_2)\big) / h - h Q .$$

This is exact for every $h$, up to rounding. With norms for which
$\|F(a, b)\| \le \|a\| \|b\|$ and $r_i = \|x_i\| / \|\dot x_i\|$, the rounding of $T$ is of
the order of

$$\epsilon \big(\|x_1\| \|x_2\| / h + \|\dot x_1\| \|x_2\| + \|x_1\| \|\dot x_2\|
+ h \|\dot x_1\| \|\dot x_2\|\big)
\le 2 \epsilon \big(\|\dot x_1\| \|x_2\| + \|x_1\| \|\dot x_2\|\big),$$

twice that of the three products, for $h$ from $r_1$ to $r_2$ and for no other. With
$h = r_i$ only the norms of one operand are needed: of one that a surrounding loop does not
change, so that $x_i + h \dot x_i$ is computed once, else of the smaller one. If operands
are rounded to a narrower dtype, $\epsilon$ is that dtype's, and the bound holds although
$F(x_1, x_2)$ is known to higher precision. (The identity is Karatsuba's; its use and this
bound are the project's own.)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Scalar

from .. import _jaxpr
from .._declared import Declared
from .._tree import at_least_float32, tree_norm


Products: TypeAlias = Literal["auto", "two", "three"]

# To save one product, two products read and write operands and output about three times
# more than three do. With fewer multiplications than this per element read or written they
# gain nothing on CPUs, and keep more. (`python -m experiments cost` measures both.)
_WORTHWHILE = 16


def _multiplications(eqn: Any) -> int:
    """How many multiplications each entry of the output takes."""
    operand = eqn.invars[1].aval
    if eqn.primitive.name == "dot_general":
        (_, contracted), _ = eqn.params["dimension_numbers"]
        return math.prod(operand.shape[k] for k in contracted)
    features = eqn.params["dimension_numbers"].rhs_spec[0]
    return operand.size // max(operand.shape[features], 1)


def _has_highest_precision(eqn: Any) -> bool:
    """Whether a product has full precision on every backend."""
    precision = eqn.params.get("precision")
    pair = precision if isinstance(precision, tuple) else (precision,)
    return all(p == jax.lax.Precision.HIGHEST for p in pair)


class ProductRule(Declared):
    """How the third sweep multiplies. Curvature methods make one in `__check_init__`, only
    for its checks.

    **Attributes:**

    - `products`: how many products a bilinear equation takes.
    - `sparing`: whether `"auto"` takes two only of a product whose value is kept for other
        equations, too: two need it, three do not.
    - `dtype`: the dtype to which operands of products are rounded; `None` for no rounding.
    """

    products: Products = eqx.field(static=True, default="auto")
    dtype: Any = eqx.field(static=True, default=None)
    sparing: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        try:
            bits = None if self.dtype is None else jnp.finfo(self.dtype).bits
        except (TypeError, ValueError):
            bits = 64  # not a float: refused like one that is too wide
        if bits is not None and bits > 32:
            raise ValueError(
                "product_dtype must be a floating-point dtype of at most 32 bits, but it "
                f"is {self.dtype!r}. Pass jnp.bfloat16, or None to leave the operands "
                "unrounded."
            )

    def uses_two(
        self, operation: Any, invariant: Sequence[int] = (), is_kept: bool = True
    ) -> bool:
        """Whether to use two products for a bilinear operation instead of three.

        **Arguments:**

        - `invariant`: which operands a surrounding loop does not change.
        - `is_kept`: whether its value is kept for other equations.
        """
        eqn = operation.eqn
        if not _jaxpr.is_product(eqn):  # an elementwise one: nothing to save
            return False
        if self.products != "auto":
            return self.products == "two"
        if self.sparing and not is_kept:
            return False
        avals = [v.aval for v in (*eqn.invars, *eqn.outvars)]
        wide = all(jnp.finfo(aval.dtype).bits >= 32 for aval in avals)
        # Elsewhere the default precision of float32 may be TF32 or bfloat16.
        exact = jax.default_backend() == "cpu" or _has_highest_precision(eqn)
        multiplications = eqn.outvars[0].aval.size * _multiplications(eqn)
        moved = [aval.size for k, aval in enumerate(avals) if k not in invariant]
        worthwhile = multiplications >= _WORTHWHILE * sum(moved)
        return self.dtype is None and wide and exact and worthwhile


def _scale(x: Array, dx: Array, dtype: Any) -> Scalar:
    r"""$h = \|x\| / \|\dot x\|$."""
    h = tree_norm(x) / tree_norm(dx)
    # Where x or its tangent is zero, any h will do that is far below or above what the
    # other operand would ask for, and keeps the product in the range of the dtype.
    far = 2.0 ** (jnp.finfo(dtype).maxexp // 3)
    h = jnp.where(jnp.isnan(h), 1, h)
    return jnp.where(h == 0, 1 / far, jnp.where(jnp.isinf(h), far, h))


def two_products(
    product: Callable[[Array, Array], Array],
    value: Array,
    x: Sequence[Array],
    dx: Sequence[Array],
    *,
    dtype: Any = None,
    invariant: Sequence[int] = (),
) -> tuple[Array, Array]:
    """The tangent $T$ and $Q$ of a bilinear equation whose `value` is known.

    **Arguments:**

    - `dtype`: the dtype to which `product` rounds; `None` for no rounding.
    - `invariant`: which operands a surrounding loop does not change.
    """
    k = min((0, 1), key=lambda k: (k not in invariant, x[k].size))
    h = _scale(x[k], dx[k], x[k].dtype if dtype is None else dtype)
    # In half precision h itself may be out of range, so the points are made in float32.
    moved = lambda x, dx: (at_least_float32(x) + h * dx).astype(x.dtype)
    p, q = product(*map(moved, x, dx)), product(*dx)
    tangent = (at_least_float32(p) - value) / h - h * q
    return tangent.astype(value.dtype), q


def three_products(
    product: Callable[[Array, Array], Array], x: Sequence[Array], dx: Sequence[Array]
) -> tuple[Array, Array]:
    """The same as `two_products`, term by term."""
    (x1, x2), (dx1, dx2) = x, dx
    return product(dx1, x2) + product(x1, dx2), product(dx1, dx2)
