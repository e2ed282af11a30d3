"""Compiles a function, and reports XLA's analysis of its cost."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from .._jit import jit_by_static
from .._tree import join_static, split_static
from ._flops import counted_flops, uncounted_flops


@dataclasses.dataclass(frozen=True)
class CompiledFunction:
    """A function compiled for given arguments, with XLA's own analysis of it.

    **Attributes:**

    - `run`: calls the function on those arguments and waits for the result.
    - `flops`: its floating-point operations; `nan` if the backend does not report them. XLA
        counts the body of every loop once. Here the body of a `scan` (also of
        `jax.lax.map`, and of a `fori_loop` with static bounds) counts as often as it runs:
        the missing iterations are added, by XLA's own count of the body. A `while`, whose
        length is not known in advance, still counts once.
    - `temporary_bytes`: the memory it needs besides its inputs and outputs; `nan` if the
        backend does not report it.
    - `total_bytes`: the same, including inputs and outputs.
    - `compile_seconds`: the time to trace, lower and compile it, without the time to count
        loops; almost zero if that was done before.
    """

    run: Callable[[], Any]
    flops: float
    temporary_bytes: float
    total_bytes: float
    compile_seconds: float


# One jitted function for the same, so that jax's cache finds what was compiled before.
@jit_by_static
def _called(static: Any, dynamic: Any) -> Any:
    fn, args = join_static(dynamic, static)
    return eqx.filter(fn(*args), eqx.is_array)


def compile_and_analyse(fn: Callable, *args: Any) -> CompiledFunction:
    """Compile a function and analyse its cost.

    **Arguments:**

    - `fn`: any function; only the arrays that it returns are kept.
    - `args`: the arguments to compile it for. Arrays are traced, everything else is static.
        For the analysis alone, `jax.ShapeDtypeStruct`s can stand in for arrays.

    **Returns:**

    A [`curvopt.cost.CompiledFunction`][].
    """
    is_dynamic = lambda x: eqx.is_array(x) or isinstance(x, jax.ShapeDtypeStruct)
    dynamic, static = split_static((fn, args), is_dynamic)
    began = time.perf_counter()
    traced = _called(static).trace(dynamic)
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
    """A context that compiles programs for the host, if it is available: on accelerators
    products are library calls, whose FLOPs XLA does not count."""
    try:
        return jax.default_device(jax.devices("cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS leaves out the CPU
        return contextlib.nullcontext()
