"""The operations that XLA leaves out when it counts those of a program with loops.

XLA counts the body of a loop once, however often it runs, and a `cond` as its most
expensive branch. The equation of a `scan` says how often it runs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
from jax.interpreters import partial_eval

from .._compat import scan_parts
from .._jaxpr import inner_jaxprs, open_jaxpr


def counted_flops(program: Any) -> float:
    """XLA's count of a compiled program; `nan` where the backend gives none."""
    costs = program.cost_analysis()
    # What only moves data has costs, but no entry for the operations that it lacks.
    return float(costs.get("flops", 0.0)) if costs else math.nan


def uncounted_flops(jaxpr: Any) -> float:
    """The operations of a program that XLA's count leaves out; 0 without a `scan`.

    Let `X` be XLA's count and `R` what it leaves out. For a `scan` of length `n`, whose
    compiled program contains `c` copies of the body (one, unless it is unrolled),

        R(scan) = (n - c) X(body) + n R(body)
        R(cond) = max_b (X(b) + R(b)) - max_b X(b),         over its branches b,

    and for every other equation `R` is the sum over the jaxprs inside it. `X(body)` is the
    count of two iterations minus that of one, because XLA moves loop invariants out of the
    loop. The body of a `while` counts once, since its length is not known in advance.

    **Arguments:**

    - `jaxpr`: the program, as `jax.make_jaxpr` gives it.
    """
    own, _ = open_jaxpr(jaxpr)
    # XLA removes dead code before it counts. This does the same, inside equations too.
    needed, _ = partial_eval.dce_jaxpr(own, [True] * len(own.outvars))
    return _of_jaxpr(needed)


def _of_jaxpr(jaxpr: Any) -> float:
    return sum((_of_equation(eqn) for eqn in open_jaxpr(jaxpr)[0].eqns), 0.0)


def _of_equation(eqn: Any) -> float:
    scan = scan_parts(eqn)
    if scan is not None:
        length, unroll = scan.length, scan.unroll
        # The remainder of an unrolled loop comes after it.
        written = length if unroll >= length else unroll + length % unroll
        rest = length * _of_jaxpr(scan.jaxpr)
        return rest if written == length else rest + (length - written) * _turn(scan)
    either = eqn.params["branches"] if eqn.primitive.name == "cond" else None
    inside = [_of_jaxpr(jaxpr) for jaxpr in either or inner_jaxprs(eqn)]
    if either is None or not any(inside):
        return sum(inside, 0.0)
    counted = [_counted(jex.jaxpr_as_fun(b), b.in_avals) for b in either]
    return max(x + r for x, r in zip(counted, inside)) - max(counted)


def _turn(scan: Any) -> float:
    """XLA's count of one more iteration."""
    body, avals = jex.jaxpr_as_fun(scan.jaxpr), list(scan.jaxpr.in_avals)
    once = _counted(body, avals)
    if scan.num_consts == 0:
        return once  # no operation is invariant, which XLA would move out of the loop

    def twice(*operands: Any) -> Any:
        consts, slices = operands[: scan.num_consts], operands[len(avals) :]
        first = body(*operands[: len(avals)])
        carry, out = first[: scan.num_carry], first[scan.num_carry :]
        return out, body(*consts, *carry, *slices)

    sliced = avals[scan.num_consts + scan.num_carry :]
    return _counted(twice, avals + sliced) - once


def _counted(fn: Callable, avals: Sequence[Any]) -> float:
    operands = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
    return counted_flops(jax.jit(fn).lower(*operands).compile())
