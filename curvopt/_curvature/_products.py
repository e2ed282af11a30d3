r"""The products of a bilinear equation, in the third sweep.

With $F(x_1, x_2)$ known from the first sweep, the sweep needs the tangent
$T = F(\dot x_1, x_2) + F(x_1, \dot x_2)$ and $Q = F(\dot x_1, \dot x_2)$: three products,
or, since $F(x_1 + h \dot x_1, x_2 + h \dot x_2) = F(x_1, x_2) + h T + h^2 Q$, two:

$$P = F(x_1 + h \dot x_1, x_2 + h \dot x_2), \qquad
T = \big(P - F(x_1, x_2)\big) / h - h Q .$$

This is exact for every $h$, up to rounding. With norms for which
$\|F(a, b)\| \le \|a\| \|b\|$, $r_i = \|x_i\| / \|\dot x_i\|$ and $h = \sqrt{r_1 r_2}$,
the rounding of $T$ is of the order of

$$\epsilon \big(\|x_1\| \|x_2\| / h + \|\dot x_1\| \|x_2\| + \|x_1\| \|\dot x_2\|
+ h \|\dot x_1\| \|\dot x_2\|\big)
\le 2 \epsilon \big(\|\dot x_1\| \|x_2\| + \|x_1\| \|\dot x_2\|\big),$$

by the inequality of arithmetic and geometric means: at most about twice that of the three
products, and no other $h$ does better. If operands are rounded to a narrower dtype,
$\epsilon$ is that dtype's, and the bound holds although $F(x_1, x_2)$ is known to higher
precision. (The identity is Karatsuba's; its use and this bound are the project's own.)
"""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Scalar

from .. import _jaxpr
from .._declared import Declared
from .._tree import at_least_float32, tree_norm


Products: TypeAlias = Literal["auto", "two", "three"]

# To save one product, two products read and write operands and output about four times more
# than three do. Measured on CPUs on an MLP, an autoencoder, a CNN, a transformer and a GRU:
# with fewer multiplications than this per element read or written, two were never faster
# than three, and kept more. (`python -m experiments cost` measures both.)
_WORTHWHILE = 32


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
    - `dtype`: the dtype to which operands of products are rounded; `None` for no rounding.
    """

    products: Products = eqx.field(static=True, default="auto")
    dtype: Any = eqx.field(static=True, default=None)

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

    def uses_two(self, operation: Any) -> bool:
        """Whether to use two products for a bilinear operation instead of three."""
        eqn = operation.eqn
        if not _jaxpr.is_product(eqn):  # an elementwise one: nothing to save
            return False
        if self.products != "auto":
            return self.products == "two"
        avals = [v.aval for v in (*eqn.invars, *eqn.outvars)]
        wide = all(jnp.finfo(aval.dtype).bits >= 32 for aval in avals)
        # Elsewhere the default precision of float32 may be TF32 or bfloat16.
        exact = jax.default_backend() == "cpu" or _has_highest_precision(eqn)
        multiplications = eqn.outvars[0].aval.size * _multiplications(eqn)
        worthwhile = multiplications >= _WORTHWHILE * sum(aval.size for aval in avals)
        return self.dtype is None and wide and exact and worthwhile


def _ratio(x: Array, dx: Array) -> Scalar:
    return tree_norm(x) / tree_norm(dx)


def balanced_step(x1: Array, x2: Array, dx1: Array, dx2: Array) -> Scalar:
    r"""$h = \sqrt{r_1 r_2}$; if one ratio is zero or not finite, the other one; if both
    are, one."""
    r1, r2 = _ratio(x1, dx1), _ratio(x2, dx2)
    usable = lambda r: jnp.isfinite(r) & (r > 0)
    other1, other2 = jnp.where(usable(r1), r1, r2), jnp.where(usable(r2), r2, r1)
    # A product of roots, because the product of the ratios may overflow.
    h = jnp.sqrt(other1) * jnp.sqrt(other2)
    return jnp.where(usable(h), h, 1)


def two_products(
    product: Callable[[Array, Array], Array],
    value: Array,
    x1: Array,
    x2: Array,
    dx1: Array,
    dx2: Array,
) -> tuple[Array, Array]:
    """The tangent $T$ and $Q$ of a bilinear equation whose `value` is known."""
    h = balanced_step(x1, x2, dx1, dx2)
    # In half precision h itself may be out of range, so the points are made in float32.
    moved = lambda x, dx: (at_least_float32(x) + h * dx).astype(x.dtype)
    p, q = product(moved(x1, dx1), moved(x2, dx2)), product(dx1, dx2)
    tangent = (at_least_float32(p) - value) / h - h * q
    return tangent.astype(value.dtype), q


def three_products(
    product: Callable[[Array, Array], Array], x1: Array, x2: Array, dx1: Array, dx2: Array
) -> tuple[Array, Array]:
    """The same as `two_products`, term by term."""
    return product(dx1, x2) + product(x1, dx2), product(dx1, dx2)
