"""What value, gradient and curvature cost over value and gradient alone."""

import math
from functools import partial

import jax

from ..cost import GRADIENT, VARIANTS
from ..cost._instance import Instance
from ..cost._variants import gradient
from ._bench import Bench, first_line, left_out, Row, Rows
from ._clock import times
from ._models import built_on, MODELS
from ._programs import compile_all, lower, Program


# In order of importance. `jet` takes minutes to compile on models of this size.
_METHODS = (
    "adjoint",
    "adjoint-two",
    "adjoint-three",
    "adjoint-bfloat16",
    "jvp-grad",
    "nested-jvp",
    "forward",
    "linearize-grad",
    "two-losses",
    "part",
    "gauss-newton",
)

_STAGES = (
    (("large-mlp", "transformer"), "default"),
    (("large-mlp", "transformer"), "highest"),
    (("resnet", "gru"), "default"),
    (("resnet", "gru"), "highest"),
)


def _expansion(method: str):
    return gradient if method == GRADIENT else VARIANTS[method].expand


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _measured(bench: Bench, name: str, programs: dict[str, Program]) -> dict[str, Row]:
    """Times, costs and curvatures of the programs of a model that could be compiled."""
    one = programs[GRADIENT]
    seconds, repeats = (0.05, 3) if bench.quick else (3.0, 30)
    timed = times(programs, GRADIENT, seconds=seconds, repeats=repeats)
    rows = {}
    for method, program in programs.items():
        row = program.costs | timed[method]
        row["temporary_ratio"] = _ratio(program.temporary_bytes, one.temporary_bytes)
        row["total_ratio"] = _ratio(program.total_bytes, one.total_bytes)
        if MODELS[name].has_loop:
            row["flops"] = math.nan
        row["flops_ratio"] = _ratio(row["flops"], one.flops)
        if method != GRADIENT:
            row["curvature"] = float(program.run()[3])
            row["wrong"] = not math.isfinite(row["curvature"])
        rows[method] = row
    return rows


def _runs(programs: dict[str, Program | str]) -> dict[str, Program | str]:
    """The same, where what cannot run (for want of memory, say) is a failure as well."""
    found = dict(programs)
    for method, program in programs.items():
        if isinstance(program, Program):
            try:
                jax.block_until_ready(program.run())
            except Exception as error:
                found[method] = first_line(error)
    return found


def _of_model(bench: Bench, name: str, matmul: str, all_of: dict) -> Rows:
    compiled = _runs({m: all_of[f"{name} {m}"] for m in (GRADIENT, *_METHODS)})
    programs = {m: p for m, p in compiled.items() if isinstance(p, Program)}
    failures = {m: p for m, p in compiled.items() if isinstance(p, str)}
    measured = {}
    if GRADIENT in programs:
        measured = _measured(bench, name, programs)
    for method in compiled:
        row = {"model": name, "precision": matmul, "method": method}
        failure = failures.get(method, "there is no gradient to compare with")
        yield row | measured.get(method, {"failure": failure})


def _stage(bench: Bench, names: tuple[str, ...], matmul: str) -> Rows:
    lowers = {}
    for name in names:
        model = MODELS[name]
        build = model.workload.tiny if bench.quick else model.workload.full
        batch_size = 4 if bench.quick else model.batch_size
        instance: Instance = built_on(bench.device, build, batch_size)
        for method in (GRADIENT, *_METHODS):
            fn = partial(_expansion(method), instance.loss)
            lowers[f"{name} {method}"] = lower(
                fn, instance.y, instance.args, matmul=matmul
            )
    all_of = compile_all(bench, lowers)
    for name in names:
        try:
            yield from _of_model(bench, name, matmul, all_of)
        except Exception as error:
            yield {"model": name, "precision": matmul, "failure": first_line(error)}


def cost(bench: Bench) -> Rows:
    """Every method on every model, in both precisions."""
    for names, matmul in _STAGES:
        if bench.late:
            for name in names:
                yield {"model": name, "precision": matmul, "failure": left_out()}
            continue
        yield from _stage(bench, names, matmul)
        jax.clear_caches()
