"""Programs, lowered one by one and compiled in parallel or in turn."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import jax

from .._formatting import first_line
from ._bench import Bench, left_out


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function with its arguments.

    **Attributes:**

    - `run`: starts it without waiting for the result.
    - `flops`: XLA's count, which has the body of a loop once.
    - `temporary_bytes`, `total_bytes`: memory without and with inputs and outputs.
    - `lower_seconds`, `compile_seconds`: the time of tracing and lowering in Python, and
        XLA's time, while other programs may compile too.
    """

    run: Callable[[], Any]
    flops: float
    temporary_bytes: float
    total_bytes: float
    lower_seconds: float
    compile_seconds: float

    @property
    def costs(self) -> dict[str, float]:
        """The costs that are known before it runs."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if f.name != "run"}


# Lowers a function for its arguments, and returns both.
Lower = Callable[[], tuple[Any, tuple[Any, ...]]]


def precision(name: str) -> contextlib.AbstractContextManager:
    """The precision of matrix products and convolutions; `"default"` is the backend's."""
    if name == "default":
        return contextlib.nullcontext()
    return jax.default_matmul_precision(name)


def lower(fn: Callable, *args: Any, matmul: str = "default") -> Lower:
    """Lower a function in a precision, when its turn comes."""

    def lowered() -> tuple[Any, tuple[Any, ...]]:
        with precision(matmul):
            return jax.jit(fn).lower(*args), args

    return lowered


_Lowered = tuple[Any, tuple[Any, ...], float]


def _lowered(bench: Bench, lowers: Lower) -> _Lowered | str:
    """The arguments of `_compile`, or the failure."""
    if bench.late:
        return left_out()
    try:
        began = time.perf_counter()
        ready, args = lowers()
        return ready, args, time.perf_counter() - began
    except Exception as error:
        return first_line(error)


def _compile(lowered: Any, args: tuple[Any, ...], lower_seconds: float) -> Program:
    began = time.perf_counter()
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()
    size = lambda kind: float(getattr(memory, f"{kind}_size_in_bytes", math.nan))
    costs = compiled.cost_analysis() or {}
    return Program(
        run=partial(compiled, *args),
        flops=float(costs.get("flops", math.nan)),
        temporary_bytes=size("temp"),
        total_bytes=size("temp") + size("argument") + size("output"),
        lower_seconds=lower_seconds,
        compile_seconds=compile_seconds,
    )


def compile_all(
    bench: Bench,
    lowers: Mapping[str, Lower],
    finish: Callable[[str, Program], Any] = lambda name, program: program,
) -> Iterator[tuple[str, Any]]:
    """Compile programs in order and in parallel, as many as there is time for.

    **Arguments:**

    - `lowers`: the programs. Python traces in one thread, XLA compiles in others.
    - `finish`: called with name and program in the thread that compiled it.

    **Returns:**

    By name the result of `finish`, or the failure as a string.
    """
    futures: dict[str, Future | str] = {}
    for name, lowered in lowers.items():
        ready = _lowered(bench, lowered)
        if isinstance(ready, str):
            futures[name] = ready
            continue

        def work(name=name, ready=ready) -> Any:
            return finish(name, _compile(*ready))

        futures[name] = bench.pool.submit(work)
    for name, future in futures.items():
        yield name, _result(bench, future)


_Key = TypeVar("_Key", bound=Hashable)


def compile_in_turn(
    bench: Bench, lowers: Mapping[_Key, Lower]
) -> Iterator[tuple[_Key, Program | str]]:
    """Compile programs in order and one at a time, as many as there is time for.

    While one compiles, the next is lowered. While the caller has one, nothing else runs, so
    that it can be timed.

    **Returns:**

    By key the program, or the failure as a string.
    """

    def begun(ready: _Lowered | str) -> Future | str:
        if isinstance(ready, str):
            return ready
        return left_out() if bench.late else bench.pool.submit(_compile, *ready)

    lowered = ((key, _lowered(bench, lower)) for key, lower in lowers.items())
    following = next(lowered, None)
    while following is not None:
        key, ready = following
        future = begun(ready)
        following = next(lowered, None)
        yield key, _result(bench, future)


def _result(bench: Bench, future: Future | str) -> Any:
    if isinstance(future, str):
        return future
    try:
        return future.result(timeout=bench.seconds_left)
    except TimeoutError:
        future.cancel()
        return left_out("it was not compiled in time")
    except Exception as error:
        return first_line(error)
