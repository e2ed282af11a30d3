import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Scalar

from ._curvature import AbstractCurvatureMethod, close_loss, quadratic_model
from ._declared import cast_hyperparameters
from ._direction import AbstractDirection
from ._flops import counted_flops, uncounted_flops
from ._problem import AbstractProblem
from ._tree import join_static, scalar_dtype, split_static


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

    A [`curvopt.CompiledFunction`][].
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


def _gradient(problem: AbstractProblem, y: Any, args: Any) -> Any:
    return jax.value_and_grad(close_loss(problem.loss, args, True), has_aux=True)(y)


def _loss(problem: AbstractProblem, y: Any, args: Any) -> Scalar:
    return close_loss(problem.loss, args, True)(y)[0]


def _slope(problem: AbstractProblem, y: Any, args: Any) -> Any:
    return jax.jvp(lambda y: _loss(problem, y, args), (y,), (y,))


def _model(
    method: AbstractCurvatureMethod, problem: AbstractProblem, y: Any, args: Any
) -> Any:
    model = quadratic_model(problem.loss, y, args, method, has_aux=True)
    return model.value, model.aux, model.grad


def _curvature(
    method: AbstractCurvatureMethod, problem: AbstractProblem, y: Any, args: Any
) -> Any:
    # The direction depends on the gradient, as in real use.
    model = quadratic_model(problem.loss, y, args, method, has_aux=True)
    u = jtu.tree_map(jnp.negative, model.grad)
    return model.value, model.aux, model.grad, model.curvature(u)


def _descent(
    direction: AbstractDirection,
    method: AbstractCurvatureMethod,
    problem: AbstractProblem,
    y: Any,
    args: Any,
) -> Any:
    direction = cast_hyperparameters(direction, scalar_dtype(y))
    model = quadratic_model(problem.loss, y, args, method, has_aux=True)
    state = direction.init(y, key=jr.key(0))
    descent, state = direction.step(model, y, state)
    return model.value, model.aux, descent.u, state


class EvaluationCosts:
    r"""What each kind of evaluation costs on a problem, in gradient-equivalents: XLA's
    FLOPs over those of one value-and-gradient. Compiled when first asked for.

    **Arguments:**

    - `problem`: the problem whose loss is evaluated, on one of its batches.
    - `method`: the curvature method. The cost of a curvature is that of value, gradient
        and curvature together, less that of value and gradient by the same method.
    """

    def __init__(self, problem: AbstractProblem, method: AbstractCurvatureMethod):
        # Shapes are enough, for nothing is run.
        self._problem = jtu.tree_map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if eqx.is_array(x) else x,
            problem,
        )
        self._method = method
        self._functions = {
            "gradient": _gradient,
            "loss": _loss,
            "slope": _slope,
            "model": eqx.Partial(_model, method),
            "curvature": eqx.Partial(_curvature, method),
        }
        self._known: dict[str, float] = {}

    @functools.cached_property
    def _point(self) -> tuple[Any, Any]:
        """Parameters and arguments of the loss, as shapes."""
        key = eqx.filter_eval_shape(jr.key, 0)
        params, model_state = eqx.filter_eval_shape(self._problem.init, key)
        data = eqx.filter_eval_shape(self._problem.batch, key, jnp.array(0))
        return params, (data, model_state, key)

    def _counted(self, fn: Callable) -> float:
        with on_host():
            return compile_and_analyse(fn, self._problem, *self._point).flops

    def _flops(self, kind: str, fn: Callable) -> float:
        if kind not in self._known:
            self._known[kind] = self._counted(fn)
        return self._known[kind]

    def of_direction(self, direction: AbstractDirection) -> float:
        """The cost in C of what every step pays before the line search: the value, and
        what the direction asks for. About 1 for a direction that follows the gradient."""
        fn = eqx.Partial(_descent, direction, self._method)
        # jax knows what it has compiled; what looks alike may not be.
        return self._counted(fn) / self._flops("gradient", _gradient)

    def __getitem__(self, kind: str) -> float:
        """The cost of `"gradient"`, `"curvature"`, `"loss"` or `"slope"`, in C."""
        flops = self._flops(kind, self._functions[kind])
        if kind == "curvature":
            flops -= self._flops("model", self._functions["model"])
        return flops / self._flops("gradient", _gradient)
