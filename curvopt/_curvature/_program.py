"""A loss as a flat list of operations: what the tape walks."""

import abc
import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .. import _compat
from ._output import OUTPUT


class Variable:
    """A value of a program; what is no variable, among operands, is a constant."""

    def __init__(self, aval: Any):
        self.aval = aval

    @property
    def is_differentiable(self) -> bool:
        """Whether it can carry a derivative; integers and booleans cannot."""
        return jnp.issubdtype(self.aval.dtype, jnp.inexact)


class AbstractOperation(abc.ABC):
    """A step of a program.

    **Attributes:**

    - `source`: the line of the user's code that it comes from.
    - `invars`, `outvars`: its operands, of which some may be constants, and its outputs.
    """

    source: str
    invars: Sequence[Any]
    outvars: Sequence[Variable]

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name of jax's primitive."""

    @abc.abstractmethod
    def bind(self, *operands: Any, product_dtype: Any = None) -> Sequence[Array]:
        """Evaluate it; its outputs always as a sequence. `product_dtype` as for
        `_compat.bind`."""

    @property
    def described(self) -> str:
        """Name and source, for an error message."""
        return f"the primitive `{self.name}` ({self.source})"

    @abc.abstractmethod
    def is_named(self, name: str) -> bool:
        """Whether it is the tag of that name, of `jax.ad_checkpoint.checkpoint_name`."""

    @property
    def variables(self) -> list[Variable]:
        """The operands that are no constants."""
        return [v for v in self.invars if isinstance(v, Variable)]


@dataclasses.dataclass(frozen=True, eq=False)
class Operation(AbstractOperation):
    """One equation of a jaxpr. A product may have transpositions around it, the
    permutations `before`, of each operand, and `after`; and its factors the other way
    round, `swapped`: see `_transposition.py`."""

    eqn: Any
    source: str
    invars: Sequence[Any]
    outvars: Sequence[Variable]
    before: Sequence[Sequence[int] | None] | None = None
    after: Sequence[int] | None = None
    swapped: bool = False

    @property
    def name(self) -> str:
        if self.is_named(OUTPUT):
            return "tag_output"
        return "checkpoint" if _compat.is_remat(self.eqn) else self.eqn.primitive.name

    def is_named(self, name: str) -> bool:
        return _compat.is_named(self.eqn, name)

    def bind(self, *operands: Any, product_dtype: Any = None) -> Sequence[Array]:
        if self.before is not None:
            operands = tuple(map(_transposed, operands, self.before))
        outs = _compat.bind(
            self.eqn, *operands, product_dtype=product_dtype, swapped=self.swapped
        )
        return outs if self.after is None else [_transposed(outs[0], self.after)]


def _transposed(x: Any, permutation: Sequence[int] | None) -> Any:
    return x if permutation is None else jnp.transpose(x, permutation)


@dataclasses.dataclass(frozen=True)
class Program:
    """Operations in an order in which they can be evaluated."""

    operations: Sequence[AbstractOperation]
    invars: Sequence[Variable]
    outvars: Sequence[Any]

    def uses(self) -> collections.Counter[Variable]:
        """How often each variable is used."""
        used = [v for operation in self.operations for v in operation.variables]
        return collections.Counter(used + [v for v in self.outvars if is_variable(v)])


def is_variable(atom: Any) -> bool:
    return isinstance(atom, Variable)


def flatten(jaxpr: Any, source: str = "") -> Program:
    """The program of a closed jaxpr, with nested `jit`s written out.

    **Arguments:**

    - `source`: where the jaxpr as a whole comes from: for equations that do not know.
    """

    def walk(jaxpr: Any, operands: Sequence[Any], source: str) -> list[Any]:
        jaxpr, consts = _compat.open_jaxpr(jaxpr)
        env = dict(zip(jaxpr.constvars, consts, strict=True))
        env |= zip(jaxpr.invars, operands, strict=True)
        read = lambda atom: atom.val if _compat.is_literal(atom) else env[atom]
        for eqn in jaxpr.eqns:
            invars = [read(atom) for atom in eqn.invars]
            own_source = _compat.source(eqn) or source
            inner = _compat.inlined(eqn)
            if inner is None:
                outvars = [Variable(v.aval) for v in eqn.outvars]
                operations.append(Operation(eqn, own_source, invars, outvars))
            else:
                outvars = walk(inner, invars, own_source)
            env.update(zip(eqn.outvars, outvars, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    operations: list[AbstractOperation] = []
    opened, _ = _compat.open_jaxpr(jaxpr)
    invars = [Variable(v.aval) for v in opened.invars]
    outvars = walk(jaxpr, invars, source)
    return Program(operations, invars, outvars)
