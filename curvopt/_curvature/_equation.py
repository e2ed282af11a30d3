"""One step of the tape, and the interfaces of all kinds of steps and sweeps."""

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
    - `source`: the line in the user's code.
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


# Kept in place of the residuals of an equation that the loss turned out not to depend on.
UNREACHED = None
# Kept where there are no adjoints: the equation passes tangents on, and adds nothing.
NO_ADJOINTS = ()


class AbstractEquation(eqx.Module):
    """A recorded step $z = F(x)$. `inputs` and `outputs` are the numbers of the values that
    depend on the parameters. It is a pytree, so that a scan can stack its arrays."""

    inputs: eqx.AbstractVar[tuple[int, ...]]
    outputs: eqx.AbstractVar[tuple[int, ...]]
    # The types of the outputs.
    structs: eqx.AbstractVar[tuple[_sharding.Struct, ...]]
    # Whether it makes tangents and duals differ: see `_rules.py`.
    splits: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def pullback(self, adjoint: Arrays, cut: bool) -> tuple[Sequence[Array | None], PyTree]:
        """Sweep 2: the adjoints of the inputs (`None` for zero), and the residuals for the
        third sweep; `cut` as for `run_backward`."""

    @abc.abstractmethod
    def advance(
        self, sweep: "AbstractSweep", kept: PyTree, carried: list[PyTree]
    ) -> tuple[list[PyTree], Any]:
        """Sweep 3: what the outputs carry, given what the inputs carry (`None` for zero,
        but not for all), and what this step adds to the total."""

    @abc.abstractmethod
    def report(self, how: Any) -> list[EquationReport]:
        """The rules used in it, given how products are computed."""


class AbstractSweep(eqx.Module):
    """A forward sweep over a tape: it carries something along with each value, and adds up
    a total. Steps with a body (`scan`, `remat`) run it inside. A value that carries `None`
    does not move: it is a constant for the equations that use it."""

    # The leading axes of what is carried: `(k,)` for k vectors at once, `()` for one.
    stack: eqx.AbstractVar[tuple[int, ...]]

    @abc.abstractmethod
    def through(self, equation: Any, kept: PyTree, carried: list[PyTree]) -> Any:
        """One primitive equation: what its outputs carry, and what it adds."""

    @abc.abstractmethod
    def instantiate(
        self, carried: PyTree, struct: _sharding.Struct, entering: list[PyTree]
    ) -> PyTree:
        """What a value carries, with explicit zeros for symbolic ones (all of it, if
        `carried` is `None`), because the carry of a loop has a fixed structure. `entering`
        is all that enters the loop."""

    def zero(self) -> Array:
        """The total of no equations: a number, or one for each pair of vectors."""
        # Whatever is added is at least as wide, and promotes it.
        return jnp.zeros((*self.stack, *self.stack), jnp.float32)

    def run(
        self,
        equations: list[AbstractEquation],
        kept: list[PyTree],
        carried: dict[int, PyTree],
    ) -> Any:
        """Sweep over `equations`, add what their outputs carry to `carried`, and return the
        total."""
        total = self.zero()
        for equation, own in zip(equations, kept, strict=True):
            inputs = [carried[number] for number in equation.inputs]
            # If the loss does not depend on it, zeros are as good as its tangents.
            if own is UNREACHED or all(item is None for item in inputs):
                carried.update(dict.fromkeys(equation.outputs))
                continue
            outputs, term = equation.advance(self, own, inputs)
            carried.update(zip(equation.outputs, outputs, strict=True))
            total = _sharding.add_parts(total, term)
        return total


def run_backward(
    equations: list[AbstractEquation], adjoints: dict[int, Array], cut: bool
) -> list[PyTree]:
    """Sweep 2: fill `adjoints`, by number, from those of the outputs.

    **Arguments:**

    - `cut`: whether to go back to the model's tagged output only, for the Gauss-Newton
        curvature. Tangents still pass through what comes before it.

    **Returns:**

    The residuals of each equation for the third sweep.
    """
    kept: list[PyTree] = []
    for equation in reversed(equations):
        if not any(number in adjoints for number in equation.outputs):
            kept.append(NO_ADJOINTS if cut else UNREACHED)
            continue
        adjoint = tuple(
            adjoints[number] if number in adjoints else _sharding.zeros(s)
            for number, s in zip(equation.outputs, equation.structs)
        )
        parts, own = equation.pullback(adjoint, cut)
        kept.append(own)
        accumulate(adjoints, equation.inputs, parts)
    return kept[::-1]


def accumulate(adjoints: dict[int, Array], numbers: Any, parts: Any) -> None:
    """Add `parts` to the adjoints of the values `numbers`; `None` is a symbolic zero."""
    for number, part in zip(numbers, parts, strict=True):
        if part is None:
            continue
        known = number in adjoints
        adjoints[number] = adjoints[number] + part if known else part
