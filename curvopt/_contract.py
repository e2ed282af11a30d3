"""What a problem must hold to, checked on shapes before anything is compiled."""

import re
from collections.abc import Callable
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
    check_instance,
    check_model_state,
    check_parameters,
    check_scalars,
    is_reserved,
)
from ._problem import AbstractProblem


def _as_arrays(problem: AbstractProblem) -> AbstractProblem:
    """A problem whose NumPy arrays are jax's: data, shared by all lanes."""
    return jtu.tree_map(
        lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, problem
    )


def _check_hashable(problem: AbstractProblem) -> None:
    """Refuse what a compiled program cannot be found by."""
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
        return True  # what is no array cannot be compared: a ref, a token
    if is_key(a) and is_key(b):
        a, b = jr.key_data(a), jr.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _traced_twice(problem: AbstractProblem, name: str, fn: Callable, *args: Any) -> _Trace:
    """The trace of one of a problem's functions; refuse one that is another the second
    time, for compiled programs keep the first for ever."""
    first, second = _traced(fn, *args), _traced(fn, *args)
    same = first.text == second.text and all(map(_same, first.constants, second.constants))
    if not same:
        raise ValueError(
            f"`{name}` of {type(problem).__name__} reads something that changes from call "
            "to call, such as an iterator, `numpy.random` or a clock. It is traced once, "
            "and the compiled program would use the first value for ever. Draw what is "
            "random from `key` by `jax.random`; choose batches from arrays by `key` and "
            "`count`, for example with `curvopt.minibatch_indices`."
        )
    return first


def _check_state(problem: AbstractProblem, before: PyTree, after: PyTree) -> None:
    """Refuse a model state that is another kind of thing after a step."""
    # By leaves: the structure of Equinox's states has more in it than what they hold.
    describe = lambda tree: [
        f"{x.dtype}{list(x.shape)}" for x in jtu.tree_leaves(tree) if hasattr(x, "dtype")
    ]
    if describe(before) != describe(after):
        raise ValueError(
            f"`loss` of {type(problem).__name__} must return a model state like the one it "
            f"was given, which has {', '.join(describe(before)) or 'no arrays'}, but the "
            f"one it returned has {', '.join(describe(after)) or 'none'}."
        )


class Checked(NamedTuple):
    """A problem that holds to its contract.

    **Attributes:**

    - `problem`: the problem, with its data as arrays of jax.
    - `convolutions`: whether its loss has any.
    """

    problem: AbstractProblem
    convolutions: bool


def check_problem(problem: Any, taken: tuple[str, ...] = ()) -> Checked:
    """Check what a problem's functions return, and that they are functions.

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

    def pair(name: str, out: Any) -> Any:
        if not isinstance(out, tuple) or len(out) != 2:
            raise ValueError(
                f"`{name}` of {type(problem).__name__} must return a pair, but it returned "
                f"{type(out).__name__}."
            )
        return out

    def init(key: Any) -> Any:
        params, state = pair("init", problem.init(key))
        check_parameters(params)
        check_model_state(state)
        return params, state

    started = _traced_twice(problem, "init", init, key)
    params, state = started.out
    batched = _traced_twice(problem, "batch", problem.batch, key, count)

    def loss(params: Any, batch: Any, state: Any, key: Any) -> Any:
        value, aux = pair("loss", problem.loss(params, (batch, state, key)))
        state, metrics = pair("loss", aux)
        check_scalars("a loss's metrics", metrics)
        return value, state

    lossy = _traced_twice(problem, "loss", loss, params, batched.out, state, key)
    _check_state(problem, state, lossy.out[1])
    evaluated = _traced_twice(problem, "evaluate", problem.evaluate, params, state)
    _check_metrics(evaluated.out, taken)
    return Checked(problem, _jaxpr.jaxpr_contains(lossy.jaxpr, "conv_general_dilated"))


def _check_metrics(metrics: Any, taken: tuple[str, ...] = ()) -> None:
    """Refuse metrics of a problem's `evaluate` that are no scalars, or whose names mean
    something else in a dataset.

    **Arguments:**

    - `metrics`: what it returned, or the shapes of that.
    - `taken`: names that are hyper-parameters.
    """
    check_scalars("a problem's metrics", metrics)
    for name in metrics:
        if is_reserved(name) or name in taken:
            raise ValueError(
                f"a problem's metric cannot be called {name!r}: the name is taken in the "
                "dataset. Call it, for example, 'train_loss'."
            )
