"""`jax.jit` that keeps only the programs that were used last."""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from ._tree import join_static, split_static


# For each function. The programs of a strategy take about 15 MB together.
_KEPT = 8


def jit_by_static(fn: Callable, **options: Any) -> Callable[[Hashable], Any]:
    """`fn(static, *args)` as a function of `static` that returns the jitted `fn(*args)`.

    With `static_argnums` jax would keep every program as long as `fn`, that is to say for
    ever, with all that its static argument refers to: each study of a new problem would
    leave its programs behind.

    **Arguments:**

    - `fn`: the function.
    - `options`: those of `jax.jit`; argument numbers do not count `static`.
    """

    @functools.lru_cache(maxsize=_KEPT)
    def of_static(static: Hashable) -> Any:
        return jax.jit(functools.partial(fn, static), **options)

    return of_static


class _Parts(eqx.Module):
    dynamic: PyTree
    static: Hashable = eqx.field(static=True)


def filter_jit(fn: Callable) -> Callable:
    """`equinox.filter_jit`, with as few programs kept."""

    @jit_by_static
    def parts(static: Hashable, dynamic: PyTree) -> _Parts:
        return _Parts(*split_static(fn(*join_static(dynamic, static))))

    @functools.wraps(fn)
    def jitted(*args: Any) -> Any:
        dynamic, static = split_static(args)
        out = parts(static)(dynamic)
        return join_static(out.dynamic, out.static)

    return jitted
