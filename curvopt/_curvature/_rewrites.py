r"""Rewrites a program for the tape: fewer operations, each cheap to differentiate.

**Products absorb the transpositions next to them.** `jax.vmap` and `einsum` put
transpositions next to matrix products. XLA folds a transposition into the adjacent product.
But the tangent of a product is a sum of products, and the transposition of a sum turns into
strided reads in everything that follows. A product and its transpositions are therefore one
bilinear operation. If the transposition only swaps the factors, the product's factors are
swapped instead, and nothing is transposed.

**Chains of elementwise operations are fused.** An activation is a handful of primitives.
One by one, each keeps the adjoint of its own output and adds a sum of its own to the
curvature, and each of these becomes an array in memory. As one function
$z = F(x_1, x_2, \dots)$ of the inputs of the chain, only the adjoints of its outputs are
kept, and the third sweep recomputes the rest from the chain's operands.
"""

import collections
import dataclasses
import heapq
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .._compat import parameters
from ._program import (
    AbstractOperation,
    flatten,
    is_variable,
    Operation,
    Program,
    Variable,
)


def prepare(program: Program, active: Sequence[bool], known: Sequence[bool]) -> Program:
    """Both rewrites. Arguments as for `with_chains`."""
    return with_chains(with_transpositions(program), active, known)


def with_transpositions(program: Program) -> Program:
    """The program with transpositions absorbed into products: those that feed one product
    only, and those that are the only use of a product."""
    uses = program.uses()
    products = [o for o in program.operations if o.is_product]
    factors = {v for o in products for v in o.variables if uses[v] == 1}
    results = {v for o in products for v in o.outvars if uses[v] == 1}
    # The transpositions to absorb, by the product's operand or output.
    ahead, behind = {}, {}
    for operation in program.operations:
        if operation.name == "transpose":
            operand, result = operation.invars[0], operation.outvars[0]
            if result in factors:
                ahead[result] = operation
            elif is_variable(operand) and operand in results:
                behind[operand] = operation
    taken = {id(o) for o in (*ahead.values(), *behind.values())}

    def widened(operation: Any) -> Any:
        if not operation.is_product:
            return operation
        around = [ahead.get(v) if is_variable(v) else None for v in operation.invars]
        end = behind.get(operation.outvars[0])
        permutation = lambda o: None if o is None else tuple(o.eqn.params["permutation"])
        after = permutation(end)
        swapped = after is not None and after == _swapping(operation.eqn)
        return dataclasses.replace(
            operation,
            invars=[
                v if o is None else o.invars[0] for v, o in zip(operation.invars, around)
            ],
            outvars=operation.outvars if end is None else end.outvars,
            before=[permutation(o) for o in around],
            after=None if swapped else after,
            swapped=swapped,
        )

    kept = [widened(o) for o in program.operations if id(o) not in taken]
    return dataclasses.replace(program, operations=kept)


def _swapping(eqn: Any) -> tuple[int, ...] | None:
    """The permutation of the output that swapping the factors of a matrix product causes;
    `None` if they cannot be swapped."""
    if eqn.primitive.name != "dot_general" or eqn.params.get("out_sharding") is not None:
        return None
    (contracted, _), (batch, _) = eqn.params["dimension_numbers"]
    ndim = eqn.outvars[0].aval.ndim
    end_of_first = eqn.invars[0].aval.ndim - len(contracted)
    first, second = range(len(batch), end_of_first), range(end_of_first, ndim)
    return (*range(len(batch)), *second, *first)


_ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp "
    "convert_element_type copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 "
    "floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg "
    "not or pow rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh xor".split()
)


@dataclasses.dataclass(frozen=True, eq=False)
class Elementwise(AbstractOperation):
    """A chain of elementwise operations on arrays of one shape."""

    chain: Sequence[Operation]
    source: str
    invars: Sequence[Any]
    outvars: Sequence[Variable]

    @property
    def members(self) -> Sequence[Operation]:
        return self.chain

    def bind(self, *operands: Any, product_dtype: Any = None) -> Sequence[Array]:
        env = dict(zip(self.invars, operands, strict=True))
        for member in self.chain:
            inputs = [env[v] if is_variable(v) else v for v in member.invars]
            env.update(zip(member.outvars, member.bind(*inputs), strict=True))
        return [env[v] for v in self.outvars]


def _shape(atom: Any) -> tuple[int, ...]:
    return atom.aval.shape if is_variable(atom) else jnp.shape(atom)


def is_elementwise(operation: AbstractOperation) -> bool:
    """Whether each entry of the output depends only on the same entry of the operands."""
    return all(map(_is_elementwise, operation.members))


def _is_elementwise(operation: Operation) -> bool:
    if not operation.outvars:
        return False
    shape, *others = [v.aval.shape for v in operation.outvars]
    fits = lambda s: len(s) == len(shape) and all(n in (1, m) for n, m in zip(s, shape))
    if any(s != shape for s in others):
        return False
    if not all(s == () or fits(s) for s in map(_shape, operation.invars)):
        return False
    if operation.primitive == "custom_jvp_call":  # its own jvp rule is still used
        body = flatten(parameters(operation.eqn)["call_jaxpr"])
        return all(map(is_elementwise, body.operations))
    return operation.primitive in _ELEMENTWISE and not operation.is_complex


def _components(
    program: Program, active: Sequence[bool], known: Sequence[bool]
) -> dict[int, int]:
    """The chain that each operation belongs to, as the index of one of its members.

    Two operations, one of which uses the other, belong to one chain if they have the same
    *level*: the number of operations of other kinds on the longest path to them. So no path
    leaves a chain and returns to it.
    """
    level = dict.fromkeys(program.invars, 0)
    touched = {v for v, is_active in zip(program.invars, active) if is_active}
    fixed = {v for v, is_known in zip(program.invars, known) if is_known}
    producer: dict[Variable, int] = {}
    chain: dict[int, int] = {}

    # Union-find: the chains grow by joining their roots.
    def root(k: int) -> int:
        while chain[k] != k:
            k = chain[k]
        return k

    for k, operation in enumerate(program.operations):
        inputs = operation.variables
        height = max((level[v] for v in inputs), default=0)
        is_touched = not touched.isdisjoint(inputs)
        if fixed.issuperset(inputs):
            fixed.update(operation.outvars)
        if is_touched and is_elementwise(operation):
            chain[k] = k
            own = operation.outvars[0]
            for v in inputs:
                alike = (
                    level[v] == height
                    and (v in fixed) == (own in fixed)
                    and v.aval.shape == own.aval.shape
                )
                if alike and producer.get(v) in chain:
                    chain[root(producer[v])] = k
        else:
            height += 1
        if is_touched:
            touched.update(operation.outvars)
        level.update(dict.fromkeys(operation.outvars, height))
        producer.update(dict.fromkeys(operation.outvars, k))
    return {k: root(k) for k in chain}


def _joined(operations: Sequence[AbstractOperation], uses: Any) -> AbstractOperation:
    """Several operations fused into one."""
    if len(operations) == 1:
        return operations[0]
    members = [member for operation in operations for member in operation.members]
    made = {v for member in members for v in member.outvars}
    inside = collections.Counter(v for member in members for v in member.variables)
    inputs = dict.fromkeys(v for m in members for v in m.variables if v not in made)
    # An output is whatever is also used outside the chain.
    outputs = [v for m in members for v in m.outvars if uses[v] > inside[v]]
    return Elementwise(members, members[-1].source, list(inputs), outputs)


def _in_order(
    operations: Sequence[AbstractOperation], inputs: Sequence[Variable]
) -> list[AbstractOperation]:
    """Operations in topological order, otherwise in their present order."""
    users, missing = collections.defaultdict(list), []
    for k, operation in enumerate(operations):
        needed = set(operation.variables) - set(inputs)
        missing.append(len(needed))
        for v in needed:
            users[v].append(k)
    # A heap: of the operations that are ready, the first in the present order goes first.
    ready = [k for k, n in enumerate(missing) if n == 0]
    ordered = []
    while ready:
        operation = operations[heapq.heappop(ready)]
        ordered.append(operation)
        for v in operation.outvars:
            for k in users[v]:
                missing[k] -= 1
                if missing[k] == 0:
                    heapq.heappush(ready, k)
    return ordered


def with_chains(program: Program, active: Sequence[bool], known: Sequence[bool]) -> Program:
    """The program with its chains of elementwise operations fused.

    **Arguments:**

    - `active`: which inputs depend on the parameters; only what they reach is fused.
    - `known`: which inputs are the same in all iterations of a loop; whatever depends on
        these alone stays separate, to be evaluated once.
    """
    if any(operation.has_effects for operation in program.operations):
        return program  # reordering could change the order of effects
    chains = _components(program, active, known)
    groups = collections.defaultdict(list)
    for k, operation in enumerate(program.operations):
        groups[chains.get(k, k)].append(operation)
    uses = program.uses()
    joined = [_joined(group, uses) for group in groups.values()]
    return dataclasses.replace(program, operations=_in_order(joined, program.invars))
