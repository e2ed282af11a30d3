import functools
import gc
import importlib
import os
import types
import typing

from quick_compile import ENVIRONMENT


# Commands leave the user's cache of programs alone. What is set already stays:
# `JAX_DISABLE_MOST_OPTIMIZATIONS=0` compiles as users do.
os.environ.update(
    ENVIRONMENT
    | {"MPLBACKEND": "agg", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    | os.environ
)

import jax
import jaxtyping._typeguard
import pytest


# What is first imported while the hook for types is at work is compiled from source again.
for library in ("matplotlib.pyplot", "scipy.optimize", "scipy.stats", "xarray"):
    importlib.import_module(library)


def _quick_leaves(typechecked):
    """jaxtyping compiles a checker of leaves whenever it meets a `PyTree[...]`: half a
    millisecond, where `isinstance` takes a few microseconds and answers the same."""

    def checker(accepts):
        (leaf,) = accepts.__annotations__.values()
        if not isinstance(leaf, (type, types.UnionType)):
            return typechecked(accepts)

        def check(x):
            if not isinstance(x, leaf):
                raise TypeError

        return check

    return checker


jaxtyping._typeguard.typechecked = _quick_leaves(jaxtyping._typeguard.typechecked)


def _needs_jaxtyping(annotation):
    """Whether an annotation is one of jaxtyping's own, or has one in it. Or a string, of
    which jaxtyping asks nothing where it is imported for static checks only."""
    if isinstance(annotation, (str, typing.ForwardRef)):
        return True
    own = type(annotation).__module__.startswith("jaxtyping.")
    return own or any(map(_needs_jaxtyping, typing.get_args(annotation)))


def _quick_functions(jaxtyped):
    """jaxtyping binds the signature at each call, to compare shapes. Where no annotation
    has any, beartype alone answers the same in a fifth of the time."""

    def decorator(fn=None, *, typechecker):
        if fn is None:
            return functools.partial(decorator, typechecker=typechecker)
        annotations = getattr(fn, "__annotations__", {}).values()
        plain = not any(map(_needs_jaxtyping, annotations))
        if not (plain and isinstance(fn, types.FunctionType)):
            return jaxtyped(fn, typechecker=typechecker)
        checked = typechecker(fn)

        @functools.wraps(fn)
        def switch(*args, **kwargs):
            off = jaxtyping.config.jaxtyping_disable
            return (fn if off else checked)(*args, **kwargs)

        return switch

    return decorator


jaxtyping.jaxtyped = _quick_functions(jaxtyping.jaxtyped)
jaxtyping._decorator.jaxtyped = (
    jaxtyping.jaxtyped
)  # for `__init__`, properties and the like


def pytest_addoption(parser):
    parser.addoption(
        "--kills", type=int, default=1, help="how often test_kill_9 kills a study"
    )


def pytest_collection_modifyitems(items):
    """The guides first: long tests, which are alone on one worker when they are last."""
    items.sort(key=lambda item: item.path.name != "test_guides.py")


def pytest_collection_finish():
    """What is imported is no garbage: a collection need not go through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def x64():
    """float64 for the length of a test: the oracle's precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Both precisions; float64 is switched on for its tests only."""
    with jax.enable_x64(request.param == "float64"):
        yield jax.numpy.dtype(request.param)


@pytest.fixture
def unchecked():
    """Without run-time type checks, as users have it: our own errors are to be seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
