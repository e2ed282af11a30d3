"""A product takes the transpositions beside it along.

`jax.vmap` and `einsum` put transpositions beside matrix products. XLA folds one into the
product that it stands beside; but the tangent of a product is a sum of products, and the
transposition of a sum becomes strided reads in all that follows. So a product and its
transpositions are one bilinear operation; and where the transposition only changes the
order of the factors, so is the product, and nothing is transposed at all.
"""

import dataclasses
from typing import Any

from .. import _compat
from ._program import is_variable, Operation, Program


def with_transpositions(program: Program) -> Program:
    """The program with every transposition that only one product uses, or that alone
    uses a product, made part of that product."""
    uses = program.uses()
    operations = [o for o in program.operations if isinstance(o, Operation)]
    products = [o for o in operations if _compat.is_product(o.eqn)]
    factors = {v for o in products for v in o.variables if uses[v] == 1}
    results = {v for o in products for v in o.outvars if uses[v] == 1}
    # The transpositions to take, by the variable that the product knows.
    ahead, behind = {}, {}
    for operation in operations:
        if operation.name == "transpose":
            operand, result = operation.invars[0], operation.outvars[0]
            if result in factors:
                ahead[result] = operation
            elif is_variable(operand) and operand in results:
                behind[operand] = operation
    taken = {id(o) for o in (*ahead.values(), *behind.values())}

    def widened(operation: Any) -> Any:
        if not _compat.is_product(operation.eqn):
            return operation
        around = [ahead.get(v) if is_variable(v) else None for v in operation.invars]
        end = behind.get(operation.outvars[0])
        permutation = lambda o: None if o is None else tuple(o.eqn.params["permutation"])
        after = permutation(end)
        swapped = after is not None and after == _compat.swapping(operation.eqn)
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
