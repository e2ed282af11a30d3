"""The cost of value, gradient and curvature relative to value and gradient alone."""

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from ..cost import GRADIENT, VARIANTS
from ..cost._variants import gradient
from ._bench import attempted, Bench, Row, Rows
from ._clock import times
from ._correctness import INEXACT
from ._models import model_on, MODELS
from ._programs import compile_in_turn, Lower, lower, Program


# The gradient comes first: every other method is timed against it.
_FIRST = (
    GRADIENT,
    "adjoint",
    "adjoint-two-bfloat16",
    "adjoint-bfloat16",
    "adjoint-two",
    "jvp-grad",
    "nested-jvp",
)
# `jet` takes minutes to compile on models of this size.
_REST = (
    "adjoint-three",
    "forward",
    "linearize-grad",
    "two-losses",
    "part",
    "gauss-newton",
)

# Models, precision and methods, in order of importance.
_PLAN = (
    (("large-mlp", "transformer"), "default", _FIRST),
    (("resnet", "gru"), "default", _FIRST),
    (("large-mlp", "transformer"), "highest", _FIRST),
    (("large-mlp", "transformer"), "default", _REST),
    (("resnet", "gru"), "highest", _FIRST),
    (("large-mlp", "transformer"), "highest", _REST),
    (("resnet", "gru"), "default", _REST),
    (("resnet", "gru"), "highest", _REST),
)
_QUICK_PLAN = (
    (("large-mlp",), "default", _FIRST[:3]),
    (("large-mlp",), "highest", _FIRST[:2]),
)

# The method with which others are compared, and the relative difference above which an
# exact one is wrong.
_STANDARD, _TOLERANCE = "adjoint", 0.1


class _Case(NamedTuple):
    """A program to measure."""

    model: str
    precision: str
    method: str


def _cases(quick: bool) -> Iterator[_Case]:
    for names, matmul, methods in _QUICK_PLAN if quick else _PLAN:
        yield from (_Case(name, matmul, method) for name in names for method in methods)


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


class _Comparison:
    """A model in one precision: its gradient, against which all methods are timed, and its
    curvature."""

    def __init__(self) -> None:
        self._gradient: Program | None = None
        self._curvature = math.nan

    def row(self, bench: Bench, case: _Case, program: Program) -> Row:
        """Times, costs and curvature of a program.

        **Raises:**

        `RuntimeError` if there is no gradient, or the program does not run.
        """
        if case.method == GRADIENT:
            self._gradient = program
        if self._gradient is None:
            raise RuntimeError("there is no gradient to time it against")
        one = self._gradient
        pair = {GRADIENT: one, case.method: program}
        seconds, repeats = (0.05, 3) if bench.quick else (3.0, 30)
        timed = times(pair, GRADIENT, seconds=seconds, repeats=repeats)[case.method]
        row = program.costs | timed
        row["temporary_ratio"] = _ratio(program.temporary_bytes, one.temporary_bytes)
        row["total_ratio"] = _ratio(program.total_bytes, one.total_bytes)
        # On an accelerator products are library calls, whose FLOPs XLA does not count.
        if MODELS[case.model].has_loop or bench.device.platform != "cpu":
            row["flops"] = math.nan
        row["flops_ratio"] = _ratio(row["flops"], one.flops)
        return row if case.method == GRADIENT else row | self._curved(case.method, program)

    def _curved(self, method: str, program: Program) -> Row:
        value = float(program.run()[3])
        if method == _STANDARD:
            self._curvature = value
        difference = _ratio(abs(value - self._curvature), abs(self._curvature))
        off = method not in INEXACT and difference > _TOLERANCE
        wrong = off or not math.isfinite(value)
        return {"curvature": value, "difference": difference, "wrong": wrong}


def _lower(model: Callable[[str], Any], case: _Case) -> Lower:
    """Lowers a case; the model is made only when its turn comes."""
    expand = gradient if case.method == GRADIENT else VARIANTS[case.method].expand

    def lowered() -> tuple[Any, tuple[Any, ...]]:
        loss, y, args = model(case.model)
        return lower(partial(expand, loss), y, args, matmul=case.precision)()

    return lowered


def cost(bench: Bench) -> Rows:
    """Every method on every model in both precisions, timed against the gradient as soon as
    it is compiled."""
    model = functools.cache(partial(model_on, bench))
    lowers = {case: _lower(model, case) for case in _cases(bench.quick)}
    comparisons = defaultdict(_Comparison)
    for case, found in compile_in_turn(bench, lowers):
        label: Row = case._asdict()
        if isinstance(found, str):
            yield label | {"failure": found}
            continue
        comparison = comparisons[case.model, case.precision]

        def measure(case=case, found=found, comparison=comparison) -> Rows:
            yield case._asdict() | comparison.row(bench, case, found)

        # A compiled program is timed even after the deadline: compiling was the cost.
        yield from attempted(label, bench.unhurried, measure)
