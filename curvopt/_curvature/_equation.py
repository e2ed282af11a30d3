"""One step of the tape, and what every kind of step and of sweep can do."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .. import _sharding


Arrays: TypeAlias = tuple[Array, ...]


class EquationReport(NamedTuple):
    """How one equation of a loss was differentiated.

    **Attributes:**

    - `primitive`: the name of jax's primitive.
    - `rule`: the rule that the curvature used; see [`curvopt.CurvatureReport`][].
    - `source`: the line of the user's code that it comes from.
    """

    primitive: str
    rule: str
    source: str


class Value(NamedTuple):
    """An array of the tape.

    **Attributes:**

    - `array`: the array; `None` where it is not known yet.
    - `number`: its number if it depends on the parameters.
    - `known`: in a loop's body, whether it is the same in all iterations.
    """

    array: Any
    number: int | None
    known: bool = True


# What is kept of an equation that the loss does not depend on after all.
UNREACHED = None


class AbstractEquation(eqx.Module):
    """A recorded step $z = F(x)$; `inputs` and `outputs` number the values which
    depend on the parameters. A pytree: its arrays can be stacked by a scan."""

    inputs: eqx.AbstractVar[tuple[int, ...]]
    outputs: eqx.AbstractVar[tuple[int, ...]]
    # The types of the outputs.
    structs: eqx.AbstractVar[tuple[_sharding.Struct, ...]]
    # Whether it sets tangents and duals apart: see `_rules.py`.
    splits: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def pullback(self, adjoint: Arrays) -> tuple[Sequence[Array | None], PyTree]:
        """Sweep 2: the adjoints of the inputs (`None` for zero), and what the third sweep
        needs of it."""

    @abc.abstractmethod
    def advance(
        self, sweep: "AbstractSweep", kept: PyTree, carried: list[PyTree]
    ) -> tuple[list[PyTree], Any]:
        """Sweep 3: what travels with the outputs, given what travels with the inputs;
        and what this step adds to the total."""

    @abc.abstractmethod
    def report(self, how: Any) -> list[EquationReport]:
        """The rules used in it, given how products are to be had."""


class AbstractSweep(eqx.Module):
    """A sweep forward over a tape: what travels along with each value, and what is
    added up on the way. Steps with a body (`scan`, `remat`) run it inside."""

    # How many directions travel at once: `(k,)`, the axis in front of a value's own; `()`
    # for one.
    stack: eqx.AbstractVar[tuple[int, ...]]

    @abc.abstractmethod
    def through(self, equation: Any, kept: PyTree, carried: list[PyTree]) -> Any:
        """One primitive equation: what travels with its outputs, and what it adds."""

    @abc.abstractmethod
    def instantiate(self, carried: PyTree, struct: _sharding.Struct) -> PyTree:
        """What travels with a value, with zeros for whatever is known to be zero
        (all of it, if `carried` is `None`): a loop's carry has one structure."""

    def zero(self) -> Array:
        """The total of no equations: a number, or one for each pair of directions."""
        return jnp.zeros((*self.stack, *self.stack), jnp.float32)

    def run(
        self,
        equations: list[AbstractEquation],
        kept: list[PyTree],
        carried: dict[int, PyTree],
    ) -> Any:
        """Sweep over `equations`, adding what travels with their outputs to `carried`,
        and return the total."""
        total = self.zero()
        for equation, own in zip(equations, kept, strict=True):
            if own is UNREACHED:
                # Whatever uses it is not moved by it: zeros are as good as tangents.
                for number, s in zip(equation.outputs, equation.structs):
                    carried[number] = self.instantiate(None, s)
                continue
            inputs = [carried[number] for number in equation.inputs]
            outputs, term = equation.advance(self, own, inputs)
            carried.update(zip(equation.outputs, outputs, strict=True))
            total = _sharding.add_parts(total, term)
        return total


def run_backward(
    equations: list[AbstractEquation], adjoints: dict[int, Array]
) -> list[PyTree]:
    """Sweep 2: fill `adjoints`, by number, from those of the outputs.

    **Returns:**

    For each equation what the third sweep needs.
    """
    kept: list[PyTree] = []
    for equation in reversed(equations):
        if not any(number in adjoints for number in equation.outputs):
            kept.append(UNREACHED)
            continue
        adjoint = tuple(
            adjoints[number] if number in adjoints else _sharding.zeros(s)
            for number, s in zip(equation.outputs, equation.structs)
        )
        parts, own = equation.pullback(adjoint)
        kept.append(own)
        accumulate(adjoints, equation.inputs, parts)
    return kept[::-1]


def accumulate(adjoints: dict[int, Array], numbers: Any, parts: Any) -> None:
    """Add to the adjoints of some values; `None` is a part known to be zero."""
    for number, part in zip(numbers, parts, strict=True):
        if part is None:
            continue
        known = number in adjoints
        adjoints[number] = adjoints[number] + part if known else part
