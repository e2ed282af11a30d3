"""What the tape takes as one step: an equation, with the transpositions beside it."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .. import _compat


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """An equation of a jaxpr.

    A matrix product is taken together with the transpositions that `jax.vmap` and
    `einsum` put beside it, as one bilinear equation. XLA folds a transposition into a
    product, but the third sweep adds products up, and a transposition of the sum
    becomes strided reads in all that follows.

    **Attributes:**

    - `eqn`: the equation.
    - `source`: the line of the user's code that it comes from.
    - `invars`, `outvars`: its variables, beyond the transpositions.
    - `before`, `after`: the permutation of each operand and of the output.
    """

    eqn: Any
    source: str
    invars: Sequence[Any]
    outvars: Sequence[Any]
    before: Sequence[Sequence[int] | None]
    after: Sequence[int] | None

    @property
    def name(self) -> str:
        """The name of jax's primitive."""
        return self.eqn.primitive.name

    @property
    def described(self) -> str:
        """Name and source, for an error message."""
        return f"the primitive `{self.name}` ({self.source})"

    def bind(self, *operands: Any, product_dtype: Any = None) -> Sequence[Array]:
        """Evaluate it; its outputs always as a sequence. `product_dtype` as for
        `_compat.bind`."""
        operands = tuple(map(_transposed, operands, self.before))
        outs = _compat.bind(self.eqn, *operands, product_dtype=product_dtype)
        return outs if self.after is None else [_transposed(outs[0], self.after)]


def _transposed(x: Any, permutation: Sequence[int] | None) -> Any:
    return x if permutation is None else jnp.transpose(x, permutation)


def operations(jaxpr: Any, source: str) -> list[Operation]:
    """The operations of a jaxpr, in order.

    **Arguments:**

    - `source`: where the jaxpr as a whole comes from: for equations that do not know.
    """
    variables = lambda atoms: [v for v in atoms if not _compat.is_literal(v)]
    uses = collections.Counter(variables(jaxpr.outvars))
    for eqn in jaxpr.eqns:
        uses.update(variables(eqn.invars))
    products = [eqn for eqn in jaxpr.eqns if _compat.is_product(eqn)]
    factors = {v for e in products for v in variables(e.invars) if uses[v] == 1}
    results = {v for e in products for v in e.outvars if uses[v] == 1}
    # What is transposed nowhere else, by the variable that the product knows.
    ahead, behind = {}, {}
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "transpose":
            if eqn.outvars[0] in factors:
                ahead[eqn.outvars[0]] = eqn
            elif eqn.invars[0] in results:
                behind[eqn.invars[0]] = eqn
    taken = {id(eqn) for eqn in (*ahead.values(), *behind.values())}

    found = []
    for eqn in jaxpr.eqns:
        if id(eqn) in taken:
            continue
        invars, outvars = list(eqn.invars), list(eqn.outvars)
        before: list[Any] = [None] * len(invars)
        after = None
        if _compat.is_product(eqn):
            for k, v in enumerate(invars):
                if not _compat.is_literal(v) and v in ahead:
                    before[k] = ahead[v].params["permutation"]
                    invars[k] = ahead[v].invars[0]
            if outvars[0] in behind:
                after = behind[outvars[0]].params["permutation"]
                outvars = behind[outvars[0]].outvars
        found.append(
            Operation(eqn, _compat.source(eqn) or source, invars, outvars, before, after)
        )
    return found
