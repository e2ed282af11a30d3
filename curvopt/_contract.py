"""The contract of a problem, checked on shapes before anything is compiled."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from . import _jaxpr
from ._checks import (
    check_count,
    check_instance,
    check_model_state,
    check_parameters,
    check_scalars,
    is_reserved,
)
from ._curvature import check_loss
from ._host_data import check_repeats, HostData
from ._problem import AbstractProblem


def _as_arrays(problem: AbstractProblem) -> AbstractProblem:
    """A problem whose NumPy arrays are jax's: data, shared by all lanes."""
    return jtu.tree_map(
        lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, problem
    )


def _check_hashable(problem: AbstractProblem) -> None:
    """Raise if a static field cannot be hashed: compiled programs are found by them."""
    static = eqx.filter(problem, eqx.is_array, inverse=True)
    for path, leaf in jtu.tree_leaves_with_path(static):
        try:
            hash(leaf)
        except TypeError as error:
            raise ValueError(
                f"{type(problem).__name__}{jtu.keystr(path)} is {leaf!r}, which cannot be "
                "hashed. Everything but arrays is part of the compiled program, and must "
                "be: make it a tuple, a number, a string or an array."
            ) from error


class _Trace(NamedTuple):
    text: str
    constants: list[Any]
    jaxpr: Any
    out: Any


def _traced(fn: Callable, *args: Any) -> _Trace:
    jaxpr, out, rest = eqx.filter_make_jaxpr(fn)(*args)
    # Where a function lies in memory is not what it does.
    text = re.sub(r"0x[0-9a-f]+", "", str(jaxpr.jaxpr))
    return _Trace(text, list(jaxpr.consts), jaxpr, eqx.combine(out, rest))


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    is_key = lambda x: jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)
    if not hasattr(a, "dtype") or not hasattr(b, "dtype"):
        return True  # a ref or a token, which cannot be compared
    if is_key(a) and is_key(b):
        a, b = jr.key_data(a), jr.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    # By bytes: nan is the same as nan here.
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _traced_twice(problem: AbstractProblem, name: str, fn: Callable, *args: Any) -> _Trace:
    """Trace one of a problem's functions twice, and raise if the traces differ: compiled
    programs keep the first for ever."""
    first, second = _traced(fn, *args), _traced(fn, *args)
    same = first.text == second.text and all(map(_same, first.constants, second.constants))
    if not same:
        raise ValueError(
            f"`{name}` of {type(problem).__name__} reads something that changes from call "
            "to call, such as an iterator, `numpy.random` or a clock. It is traced once, "
            "and the compiled program would use the first value for ever. Draw what is "
            "random from `key` by `jax.random`; choose batches from arrays by `key` and "
            "`count`, for example with `curvopt.minibatch_indices`. Batches from the host "
            "are a `curvopt.HostData`: see the guide on data, curvopt/guides/data.md."
        )
    return first


def _pair(out: Any, form: str) -> tuple[Any, Any]:
    if not isinstance(out, tuple) or len(out) != 2:
        raise ValueError(f"it must return a pair, `{form}`, but it returned {_kind(out)}.")
    return out[0], out[1]


def _kind(out: Any) -> str:
    """What a function returned, in words."""
    if hasattr(out, "dtype") and hasattr(out, "shape"):
        return f"{out.dtype}{list(out.shape)}"
    if isinstance(out, (tuple, list)):
        return f"a {type(out).__name__} of {len(out)}"
    return type(out).__name__


def _check_batch(data: Any) -> None:
    for path, leaf in jtu.tree_leaves_with_path(data):
        if not eqx.is_array_like(leaf):
            raise ValueError(
                f"it must return a pytree of arrays, but {jtu.keystr(path) or 'it'} is "
                f"{_kind(leaf)}."
            )


def _check_state(before: PyTree, after: PyTree) -> None:
    """Raise if a step changes the shapes or dtypes of the model state."""
    # By leaves: the structure of Equinox's states has more in it than what they hold.
    describe = lambda tree: [_kind(x) for x in jtu.tree_leaves(tree) if hasattr(x, "dtype")]
    if describe(before) != describe(after):
        raise ValueError(
            "it must return a model state like the one it was given, which has "
            f"{', '.join(describe(before)) or 'no arrays'}, but the one it returned has "
            f"{', '.join(describe(after)) or 'none'}."
        )


@contextlib.contextmanager
def _naming(problem: AbstractProblem, name: str) -> Iterator[None]:
    """Name the problem and its function in errors that are raised within."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"`{name}` of {type(problem).__name__}: {error}") from None


class Checked(NamedTuple):
    """A problem that passed the checks.

    **Attributes:**

    - `problem`: the problem, with its data as arrays of jax.
    - `convolutions`: whether its loss has any.
    """

    problem: AbstractProblem
    convolutions: bool


def check_problem(problem: Any, taken: tuple[str, ...] = ()) -> Checked:
    """Check what a problem's functions return, and that they are pure.

    **Arguments:**

    - `problem`: the problem.
    - `taken`: names that its metrics cannot have.

    **Raises:**

    `ValueError` naming the function, what it returned and what to do.
    """
    check_instance("problem", problem, AbstractProblem)
    problem = _as_arrays(problem)
    _check_hashable(problem)
    key, count = jr.key(0), jnp.array(0, jnp.int32)

    def init(key: Any) -> Any:
        out = problem.init(key)
        with _naming(problem, "init"):
            params, state = _pair(out, "(params, model_state)")
            check_parameters(params)
            check_model_state(state)
        return params, state

    params, state = _traced_twice(problem, "init", init, key).out

    def batch(key: Any, count: Any) -> Any:
        data = problem.batch(key, count)
        with _naming(problem, "batch"):
            _check_batch(data)
        return data

    if problem.host_data is None:
        data = _traced_twice(problem, "batch", batch, key, count).out
    else:
        check_instance("host_data", problem.host_data, HostData)
        check_repeats(problem.host_data)
        data = problem.example_batch(key)

    def loss(params: Any, data: Any, state: Any, key: Any) -> Any:
        out = problem.loss(params, (data, state, key))
        with _naming(problem, "loss"):
            value, aux = _pair(out, "(loss, (model_state, metrics))")
            after, metrics = _pair(aux, "(model_state, metrics)")
            value = check_loss(value)
            check_scalars(metrics)
            _check_state(state, after)
        return value, after

    lossy = _traced_twice(problem, "loss", loss, params, data, state, key)

    def evaluate(params: Any, state: Any) -> Any:
        metrics = problem.evaluate(params, state)
        with _naming(problem, "evaluate"):
            _check_metrics(metrics, taken)
        return metrics

    _traced_twice(problem, "evaluate", evaluate, params, state)
    with _naming(problem, "steps_per_epoch"):
        check_count("it", problem.steps_per_epoch)
    return Checked(problem, _jaxpr.jaxpr_contains(lossy.jaxpr, "conv_general_dilated"))


def _check_metrics(metrics: Any, taken: tuple[str, ...] = ()) -> None:
    """Raise if metrics of a problem's `evaluate` are not scalars, or if the dataset uses
    their names for something else.

    **Arguments:**

    - `metrics`: what it returned, or the shapes of that.
    - `taken`: names that are hyper-parameters.
    """
    check_scalars(metrics)
    for name in metrics:
        if is_reserved(name) or name in taken:
            raise ValueError(
                f"a metric cannot be called {name!r}: the name is taken in the "
                "dataset. Call it, for example, 'train_loss'."
            )
