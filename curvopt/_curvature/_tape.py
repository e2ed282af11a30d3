r"""The tape of a loss, and the three sweeps over it.

Write the loss as a sequence of equations $z_i = F_i(\text{inputs})$, one for each
primitive of its jaxpr. Then

1. `record` evaluates it forward and keeps what the other sweeps need;
2. `backward` carries the adjoints $\hat z_i = \partial f / \partial z_i$ back;
3. `tangent_sweep` carries the tangents $\dot z_i$ along $u$ forward and adds up

$$\langle u, H u \rangle = \sum_i \langle \hat z_i, D^2 F_i[\dot z, \dot z] \rangle .$$

No second tangent $\ddot z$ is needed: the adjoints have already carried every
second-order contribution to the output. That is what this saves over a nested `jvp`.

The idea of three sweeps is that of de Gournay & Gossard (arXiv 2210.14520); its
form here, on jaxprs, is this project's own.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Scalar

from .. import _compat
from ._rules import find_rule, find_split_rule, Rule, SplitRule


class _Value(NamedTuple):
    """An array of the tape, and its number if it depends on the parameters."""

    array: Any
    number: int | None


@dataclasses.dataclass(frozen=True)
class Equation:
    """One recorded equation, as a function of its *active* inputs: those that depend
    on the parameters and are floating-point."""

    fn: Callable[..., tuple[Array, ...]]
    rule: Rule | None
    split_rule: SplitRule
    primals: tuple[Array, ...]
    pullback: Callable[[tuple[Array, ...]], tuple[Array, ...]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    out_structs: tuple[jax.ShapeDtypeStruct, ...]


class Tape:
    """The equations of a loss that depend on its parameters, in order."""

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self._numbers = 0

    def number(self) -> int:
        self._numbers += 1
        return self._numbers - 1

    def run(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[_Value]):
        """Evaluate a jaxpr, recording its active equations; its outputs as `_Value`s."""
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        env |= {v: _Value(c, None) for v, c in zip(jaxpr.constvars, consts, strict=True)}

        def read(atom: Any) -> _Value:
            return _Value(atom.val, None) if _compat.is_literal(atom) else env[atom]

        for eqn in jaxpr.eqns:
            operands = [read(atom) for atom in eqn.invars]
            inner = _compat.inlined(eqn)
            if inner is not None:
                outs = self.run(*_compat.open_jaxpr(inner), operands)
            elif _compat.stops_gradient(eqn) or all(o.number is None for o in operands):
                outs = [
                    _Value(out, None)
                    for out in _compat.bind(eqn, *(o.array for o in operands))
                ]
            else:
                outs = self._record(eqn, operands)
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _record(self, eqn: Any, operands: Sequence[_Value]) -> list[_Value]:
        active = [k for k, operand in enumerate(operands) if operand.number is not None]
        # Integers and the like may come out beside the floating outputs (`sort`,
        # `top_k`): they carry no derivative.
        inexact = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars]

        def fn_and_rest(*primals: Array) -> tuple[tuple[Array, ...], list[Array]]:
            arrays = [operand.array for operand in operands]
            for k, primal in zip(active, primals, strict=True):
                arrays[k] = primal
            outs = _compat.bind(eqn, *arrays)
            differentiable = tuple(o for o, is_in in zip(outs, inexact) if is_in)
            return differentiable, [o for o, is_in in zip(outs, inexact) if not is_in]

        primals = tuple(operands[k].array for k in active)
        outs, pullback, rest = jax.vjp(fn_and_rest, *primals, has_aux=True)
        outputs = tuple(self.number() for _ in outs)
        self.equations.append(
            Equation(
                fn=lambda *xs: fn_and_rest(*xs)[0],
                rule=find_rule(eqn, active),
                split_rule=find_split_rule(eqn),
                primals=primals,
                pullback=pullback,
                inputs=tuple(operands[k].number for k in active),  # pyright: ignore
                outputs=outputs,
                out_structs=tuple(jax.ShapeDtypeStruct(o.shape, o.dtype) for o in outs),
            )
        )
        outs, rest, numbers = iter(outs), iter(rest), iter(outputs)
        return [
            _Value(next(outs), next(numbers)) if is_in else _Value(next(rest), None)
            for is_in in inexact
        ]


Adjoints = list[tuple[Array, ...] | None]


def record(
    fn: Callable[..., list[Array]], leaves: Sequence[Array]
) -> tuple[Tape, list[Array], int | None]:
    """Sweep 1: evaluate `fn(*leaves)` forward.

    **Returns:**

    The tape (its values `0 .. len(leaves) - 1` are the leaves), the outputs of `fn`,
    and the number of the first output, which is the loss (`None` if it does not
    depend on the leaves).
    """
    tape = Tape()
    jaxpr, consts = _compat.open_jaxpr(jax.make_jaxpr(fn)(*leaves))
    outs = tape.run(jaxpr, consts, [_Value(leaf, tape.number()) for leaf in leaves])
    return tape, [jnp.asarray(out.array) for out in outs], outs[0].number


def backward(
    tape: Tape, leaves: Sequence[Array], loss: Array, loss_number: int | None
) -> tuple[list[Array], Adjoints]:
    """Sweep 2: the gradient, and for each equation the adjoints of its outputs
    (`None` where the loss does not depend on them)."""
    found: dict[int, Array] = {}
    if loss_number is not None:
        found[loss_number] = jnp.ones_like(loss)
    adjoints: Adjoints = []
    for equation in reversed(tape.equations):
        if not any(number in found for number in equation.outputs):
            adjoints.append(None)
            continue
        adjoint = tuple(
            found.get(number, jnp.zeros(struct.shape, struct.dtype))
            for number, struct in zip(equation.outputs, equation.out_structs)
        )
        adjoints.append(adjoint)
        for number, part in zip(equation.inputs, equation.pullback(adjoint)):
            found[number] = found[number] + part if number in found else part
    grad = [found.get(k, jnp.zeros_like(leaf)) for k, leaf in enumerate(leaves)]
    return grad, adjoints[::-1]


def tangent_sweep(tape: Tape, adjoints: Adjoints, u: Sequence[Array]) -> Scalar:
    """Sweep 3: the curvature along `u`, one array for each leaf.

    Tangents and duals are the same arrays until a `custom_vjp` sets them apart.
    """
    tangents = dict(enumerate(u))
    duals = dict(tangents)
    curvature = jnp.zeros((), jnp.float32)
    for equation, adjoint in zip(tape.equations, adjoints, strict=True):
        if adjoint is None:
            continue
        fn, x = equation.fn, equation.primals
        dx = tuple(tangents[number] for number in equation.inputs)
        dual = tuple(duals[number] for number in equation.inputs)
        together = all(a is b for a, b in zip(dx, dual))
        if together and equation.rule is not None:
            outs, term = equation.rule(fn, x, dx, adjoint)
            dual_outs = outs
        else:
            outs, dual_outs, term = equation.split_rule(fn, x, dx, dual, adjoint)
        tangents.update(zip(equation.outputs, outs, strict=True))
        duals.update(zip(equation.outputs, dual_outs, strict=True))
        curvature = curvature + term
    return curvature
