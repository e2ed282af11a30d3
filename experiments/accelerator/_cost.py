"""What value, gradient and curvature cost over value and gradient alone."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import jax

from ..cost import GRADIENT, VARIANTS
from ..cost._instance import Instance
from ..cost._variants import gradient
from ._bench import attempted, Bench, first_line, Row, Rows
from ._clock import times
from ._correctness import INEXACT
from ._models import model_on, MODELS
from ._programs import compile_all, lower, Program


# In order of importance. `jet` takes minutes to compile on models of this size.
_METHODS = (
    "adjoint",
    "adjoint-two",
    "adjoint-three",
    "adjoint-bfloat16",
    "adjoint-two-bfloat16",
    "jvp-grad",
    "nested-jvp",
    "forward",
    "linearize-grad",
    "two-losses",
    "part",
    "gauss-newton",
)
_QUICK_METHODS = "adjoint", "adjoint-three", "nested-jvp"

# The models that are compiled together, and the precision.
_STAGES = (
    (("large-mlp",), "default"),
    (("transformer",), "default"),
    (("large-mlp", "transformer"), "highest"),
    (("resnet", "gru"), "default"),
    (("resnet", "gru"), "highest"),
)
_QUICK_STAGES = ((("large-mlp",), "default"), (("large-mlp",), "highest"))

# What all others are compared with, and from when on an exact one is called wrong.
_STANDARD, _TOLERANCE = "adjoint-three", 0.1


def _expansion(method: str) -> Callable:
    return gradient if method == GRADIENT else VARIANTS[method].expand


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def running(programs: Mapping[str, Program | str]) -> dict[str, Program | str]:
    """Programs that run, and the failures of those that do not compile or run."""
    found = dict(programs)
    for name, program in programs.items():
        if isinstance(program, Program):
            try:
                jax.block_until_ready(program.run())
            except Exception as error:  # for want of memory, say
                found[name] = first_line(error)
    return found


def only_programs(found: Mapping[str, Program | str]) -> dict[str, Program]:
    """Those that did not fail."""
    return {k: x for k, x in found.items() if isinstance(x, Program)}


def _curvatures(programs: Mapping[str, Program]) -> dict[str, Row]:
    values = {m: float(p.run()[3]) for m, p in programs.items() if m != GRADIENT}
    standard = values.get(_STANDARD, math.nan)
    rows: dict[str, Row] = {}
    for method, value in values.items():
        difference = _ratio(abs(value - standard), abs(standard))
        off = method not in INEXACT and difference > _TOLERANCE
        wrong = off or not math.isfinite(value)
        rows[method] = {"curvature": value, "difference": difference, "wrong": wrong}
    return rows


def _measured(bench: Bench, name: str, programs: Mapping[str, Program]) -> dict[str, Row]:
    """Times, costs and curvatures of the programs of a model."""
    one = programs[GRADIENT]
    seconds, repeats = (0.05, 3) if bench.quick else (3.0, 30)
    timed = times(programs, GRADIENT, seconds=seconds, repeats=repeats)
    curvatures = _curvatures(programs)
    rows = {}
    for method, program in programs.items():
        row = program.costs | timed[method] | curvatures.get(method, {})
        row["temporary_ratio"] = _ratio(program.temporary_bytes, one.temporary_bytes)
        row["total_ratio"] = _ratio(program.total_bytes, one.total_bytes)
        # Those of the library calls that products are on an accelerator are not counted.
        if MODELS[name].has_loop or bench.device.platform != "cpu":
            row["flops"] = math.nan
        row["flops_ratio"] = _ratio(row["flops"], one.flops)
        rows[method] = row
    return rows


def _of_model(
    bench: Bench, name: str, matmul: str, compiled: Mapping[str, Program | str]
) -> Rows:
    found = running(compiled)
    programs = only_programs(found)
    measured = _measured(bench, name, programs) if GRADIENT in programs else {}
    for method, program in found.items():
        row = {"model": name, "precision": matmul, "method": method}
        failure = program if isinstance(program, str) else "it has no gradient beside it"
        yield row | measured.get(method, {"failure": failure})


def _stage(
    bench: Bench, instances: Mapping[str, Instance], matmul: str, methods: tuple[str, ...]
) -> Rows:
    lowers = {
        f"{name} {method}": lower(partial(_expansion(method), loss), y, args, matmul=matmul)
        for name, (loss, y, args) in instances.items()
        for method in (GRADIENT, *methods)
    }
    compiled = dict(compile_all(bench, lowers))
    for name in instances:
        own = {method: compiled[f"{name} {method}"] for method in (GRADIENT, *methods)}
        label = {"model": name, "precision": matmul}
        measure = partial(_of_model, bench, name, matmul, own)
        # What is compiled is timed, whatever the time is.
        yield from attempted(label, bench.unhurried, measure)


def cost(bench: Bench) -> Rows:
    """Every method on every model, in both precisions."""
    methods = _QUICK_METHODS if bench.quick else _METHODS
    for names, matmul in _QUICK_STAGES if bench.quick else _STAGES:

        def measure(names=names, matmul=matmul) -> Rows:
            instances = {name: model_on(bench, name) for name in names}
            return _stage(bench, instances, matmul, methods)

        label = {"model": ", ".join(names), "precision": matmul}
        yield from attempted(label, bench, measure)
