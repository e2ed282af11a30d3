"""A function compiled, with what XLA says it costs."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from .._tree import join_static, split_static
from ._flops import counted_flops, uncounted_flops


@dataclasses.dataclass(frozen=True)
class CompiledFunction:
    """A function compiled for given arguments, with XLA's own analysis of it.

    **Attributes:**

    - `run`: calls it on those arguments and waits for the result.
    - `flops`: its floating-point operations; `nan` where the backend gives none. XLA
        counts the body of every loop once; here a `scan` (also `jax.lax.map`, and a
        `fori_loop` whose bounds are fixed) counts as often as it runs: what XLA left out
        is added, by its own count of the body. A `while`, whose length is not known
        before, stays counted once.
    - `temporary_bytes`: the memory it needs beside its inputs and outputs; `nan` where
        the backend gives none.
    - `total_bytes`: the same with its inputs and outputs.
    - `compile_seconds`: how long it took to trace, lower and compile it; next to nothing
        where that was done before. Without what it takes to count loops.
    """

    run: Callable[[], Any]
    flops: float
    temporary_bytes: float
    total_bytes: float
    compile_seconds: float


# One function for all, so that jax knows what it has compiled before.
@functools.partial(jax.jit, static_argnums=0)
def _called(static: Any, dynamic: Any) -> Any:
    fn, args = join_static(dynamic, static)
    return eqx.filter(fn(*args), eqx.is_array)


def compile_and_analyse(fn: Callable, *args: Any) -> CompiledFunction:
    """Compile a function and ask XLA what it costs.

    **Arguments:**

    - `fn`: any function; of what it returns, the arrays are kept.
    - `args`: what to compile it for. Arrays are traced, all else is static; where only
        the analysis is wanted, `jax.ShapeDtypeStruct`s can stand for arrays.

    **Returns:**

    A [`curvopt.cost.CompiledFunction`][].
    """
    is_dynamic = lambda x: eqx.is_array(x) or isinstance(x, jax.ShapeDtypeStruct)
    dynamic, static = split_static((fn, args), is_dynamic)
    began = time.perf_counter()
    traced = _called.trace(static, dynamic)
    program = traced.lower().compile()
    compile_seconds = time.perf_counter() - began
    memory = program.memory_analysis()
    size = lambda kind: float(getattr(memory, f"{kind}_size_in_bytes", math.nan))
    return CompiledFunction(
        run=lambda: jax.block_until_ready(program(dynamic)),
        flops=counted_flops(program) + uncounted_flops(traced.jaxpr),
        temporary_bytes=size("temp"),
        total_bytes=size("temp") + size("argument") + size("output"),
        compile_seconds=compile_seconds,
    )


def on_host() -> contextlib.AbstractContextManager[Any]:
    """Within it programs are compiled for the host, if it can be had: XLA does not count
    the FLOPs of the library calls that an accelerator's products are."""
    try:
        return jax.default_device(jax.devices("cpu")[0])
    except RuntimeError:  # other platforms alone were asked for
        return contextlib.nullcontext()
