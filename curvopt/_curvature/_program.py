"""A loss as a flat list of operations, which the tape walks."""

import abc
import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .. import _compat, _jaxpr


# The name that `jax.ad_checkpoint.checkpoint_name` gives to a model's output.
OUTPUT = "curvopt.output"


class Variable:
    """A value of a program. An operand that is not a variable is a constant."""

    def __init__(self, aval: Any):
        self.aval = aval

    @property
    def is_differentiable(self) -> bool:
        """Whether it can carry a derivative; integers and booleans cannot."""
        return jnp.issubdtype(self.aval.dtype, jnp.inexact)


def is_variable(atom: Any) -> bool:
    return isinstance(atom, Variable)


class AbstractOperation(abc.ABC):
    """A step of a program.

    **Attributes:**

    - `source`: the line in the user's code.
    - `invars`, `outvars`: its operands (variables and constants) and its outputs.
    """

    source: str
    invars: Sequence[Any]
    outvars: Sequence[Variable]

    @property
    @abc.abstractmethod
    def members(self) -> Sequence["Operation"]:
        """The equations in it, in order."""

    @abc.abstractmethod
    def bind(self, *operands: Any, product_dtype: Any = None) -> Sequence[Array]:
        """Evaluate it; the outputs are always a sequence. `product_dtype` as for
        `_jaxpr.bind`."""

    @property
    def variables(self) -> list[Variable]:
        """The operands that are not constants."""
        return [v for v in self.invars if isinstance(v, Variable)]

    @property
    def name(self) -> str:
        """The names of its primitives."""
        return ", ".join(dict.fromkeys(member.primitive for member in self.members))

    @property
    def described(self) -> str:
        """Name and source, for an error message."""
        return f"the primitive `{self.name}` ({self.source})"

    @property
    def has_effects(self) -> bool:
        """Whether it has side effects (printing, say)."""
        return any(member.eqn.effects for member in self.members)

    @property
    def stops_gradient(self) -> bool:
        """Whether its outputs count as constants."""
        return any(member.primitive == "stop_gradient" for member in self.members)

    @property
    def scan_parts(self) -> _compat.ScanParts | None:
        """Its body and the rest, if it is a `scan`."""
        return _compat.scan_parts(self.members[0].eqn)

    @property
    def is_remat(self) -> bool:
        """Whether it is a `jax.checkpoint`."""
        return _jaxpr.is_remat(self.members[0].eqn)

    @property
    def is_product(self) -> bool:
        """Whether it is a matrix product or a convolution."""
        return _jaxpr.is_product(self.members[0].eqn)

    @property
    def is_output(self) -> bool:
        """Whether it tags the model's output."""
        return any(member.primitive == "tag_output" for member in self.members)

    def contains(self, primitive: str) -> bool:
        """Whether a primitive of that name is somewhere in it."""
        return any(_jaxpr.contains(member.eqn, primitive) for member in self.members)


# Compared and hashed by identity: it is static in equations, and its lists have no hash.
@dataclasses.dataclass(frozen=True, eq=False)
class Operation(AbstractOperation):
    """One equation of a jaxpr. A product may absorb transpositions, the permutations
    `before` of its operands and `after` of its output, and may have its factors `swapped`:
    see `_rewrites.py`."""

    eqn: Any
    source: str
    invars: Sequence[Any]
    outvars: Sequence[Variable]
    before: Sequence[Sequence[int] | None] | None = None
    after: Sequence[int] | None = None
    swapped: bool = False

    @property
    def members(self) -> Sequence["Operation"]:
        return (self,)

    @property
    def primitive(self) -> str:
        """The name of jax's primitive, or the user's name for it where that says more."""
        name = _compat.primitive_name(self.eqn)
        if name == "name" and _compat.parameters(self.eqn)["name"] == OUTPUT:
            return "tag_output"
        return "checkpoint" if _jaxpr.is_remat(self.eqn) else name

    @property
    def is_complex(self) -> bool:
        """Whether an operand is complex."""
        dtypes = [jnp.result_type(getattr(v, "aval", v)) for v in self.invars]
        return any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes)

    def bind(self, *operands: Any, product_dtype: Any = None) -> Sequence[Array]:
        if self.before is not None:
            operands = tuple(map(_transposed, operands, self.before))
        outs = _jaxpr.bind(
            self.eqn, *operands, product_dtype=product_dtype, swapped=self.swapped
        )
        return outs if self.after is None else [_transposed(outs[0], self.after)]


def _transposed(x: Any, permutation: Sequence[int] | None) -> Any:
    return x if permutation is None else jnp.transpose(x, permutation)


@dataclasses.dataclass(frozen=True)
class Program:
    """Operations in an order of evaluation."""

    operations: Sequence[AbstractOperation]
    invars: Sequence[Variable]
    outvars: Sequence[Any]

    def uses(self) -> collections.Counter[Variable]:
        """How often each variable is used."""
        used = [v for operation in self.operations for v in operation.variables]
        return collections.Counter(used + [v for v in self.outvars if is_variable(v)])

    def live(self, outputs: Sequence[bool]) -> set[Variable]:
        """The variables through which a derivative can flow to the live outputs.

        Variables that only auxiliary outputs need are left out: they are evaluated, never
        differentiated.
        """
        pairs = zip(self.outvars, outputs, strict=True)
        live = {v for v, is_live in pairs if is_live and is_variable(v)}
        for operation in reversed(self.operations):
            if operation.stops_gradient:
                continue
            if any(v in live and v.is_differentiable for v in operation.outvars):
                live.update(operation.variables)
        return live

    def active(self, inputs: Sequence[bool]) -> set[Variable]:
        """The variables that depend on the active inputs, differentiably."""
        pairs = zip(self.invars, inputs, strict=True)
        active = {v for v, is_active in pairs if is_active}
        for operation in self.operations:
            if not operation.stops_gradient and not active.isdisjoint(operation.variables):
                active.update(v for v in operation.outvars if v.is_differentiable)
        return active


def flatten(jaxpr: Any, source: str = "") -> Program:
    """The program of a closed jaxpr, with nested `jit`s inlined.

    **Arguments:**

    - `source`: the source of the whole jaxpr, for equations that have none of their own.
    """

    def walk(jaxpr: Any, operands: Sequence[Any], source: str) -> list[Any]:
        jaxpr, consts = _jaxpr.open_jaxpr(jaxpr)
        env = dict(zip(jaxpr.constvars, consts, strict=True))
        env |= zip(jaxpr.invars, operands, strict=True)
        read = lambda atom: atom.val if _jaxpr.is_literal(atom) else env[atom]
        for eqn in jaxpr.eqns:
            invars = [read(atom) for atom in eqn.invars]
            own_source = _jaxpr.source(eqn) or source
            inner = _jaxpr.inlined(eqn)
            if inner is None:
                outvars = [Variable(v.aval) for v in eqn.outvars]
                operations.append(Operation(eqn, own_source, invars, outvars))
            else:
                outvars = walk(inner, invars, own_source)
            env.update(zip(eqn.outvars, outvars, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    operations: list[AbstractOperation] = []
    opened, _ = _jaxpr.open_jaxpr(jaxpr)
    invars = [Variable(v.aval) for v in opened.invars]
    outvars = walk(jaxpr, invars, source)
    return Program(operations, invars, outvars)
