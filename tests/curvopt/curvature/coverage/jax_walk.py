"""Every public function of some modules of jax, called and differentiated twice.

A verdict is never taken from a table: the curvature of an example is compared with
jax's own Hessian, in float64, and the rules are those that the model reports.
"""

import importlib
import inspect
import pathlib
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax_examples import ARRAYS, AUTOMATIC, ELSEWHERE, EXAMPLES, HELPERS

import curvopt


FOLDER = pathlib.Path(__file__).parent
MODULES = (*EXAMPLES,)
VERSION = ".".join(jax.__version__.split(".")[:2])

EXACT, GENERIC = "exact", "exact, generic"
CONSTANT, REFUSED, HELPER = "constant", "refused", "not a function of arrays"
UNCHECKED = "not checked"
VERDICTS = (EXACT, GENERIC, CONSTANT, REFUSED, UNCHECKED, HELPER)
_MARK = "optimization_barrier"
_ORDERS = {1: "first", 2: "second"}

# Forward mode takes half as long again; these modules hold nearly all primitives.
_FORWARD_TOO = ("jax.lax", "jax.nn", "jax.numpy.linalg")
_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


class Row(NamedTuple):
    """What is said of one function."""

    verdict: str
    why: str


class Failure(Exception):
    """A function that has no verdict: it has no example, or its curvature is wrong."""


def public_names(module: str) -> list[str]:
    """The callables that a module shows, in the order of the alphabet."""
    space = importlib.import_module(module)
    names = [n for n in dir(space) if not n.startswith("_")]
    return sorted((n for n in names if callable(getattr(space, n))), key=str.lower)


def _example(module: str, name: str, fn: Callable) -> tuple[Callable, tuple[str, ...]]:
    """A function of some of `ARRAYS`, and the names of these."""
    own = EXAMPLES[module].get(name)
    if own is not None:
        return own, tuple(inspect.signature(own).parameters)
    for names in AUTOMATIC:
        try:
            jax.eval_shape(fn, *(ARRAYS[k] for k in names))
        except Exception:
            continue
        return fn, names
    raise Failure("no example: give it one in jax_examples.py")


def _is_inexact(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _parts(x: jax.Array) -> Iterator[jax.Array]:
    is_complex = jnp.issubdtype(x.dtype, jnp.complexfloating)
    yield from (lax.real(x), lax.imag(x)) if is_complex else (x,)


class _Example:
    """The weighted squares of all outputs of a function, as a loss of its arrays."""

    def __init__(self, fn: Callable, names: tuple[str, ...]):
        self._fn, self._names = fn, names
        arrays = {k: jnp.asarray(ARRAYS[k]) for k in names}
        self.y = {k: a for k, a in arrays.items() if _is_inexact(a)}
        self._constants = {k: a for k, a in arrays.items() if k not in self.y}
        self.u = {k: jnp.asarray(np.cos(7 * ARRAYS[k] + 1)) for k in self.y}

    def outputs(self, y: dict[str, jax.Array]) -> list[jax.Array]:
        arrays = self._constants | y
        outs = jax.tree.leaves(self._fn(*(arrays[k] for k in self._names)))
        inexact = [o for o in map(jnp.asarray, outs) if _is_inexact(o)]
        # A mark between the function and the loss: what comes after it is the loss's.
        return list(lax.optimization_barrier(tuple(inexact)))

    def loss(self, y: dict[str, jax.Array], _: Any = None) -> jax.Array:
        total = jnp.zeros(())
        for part in (p for out in self.outputs(y) for p in _parts(out)):
            weights = np.linspace(0.4, 1.3, part.size).reshape(part.shape)
            total = total + jnp.sum(weights * (part + 0.3) ** 2)
        return total

    def model(self, y: Any, method: Any) -> Any:
        return curvopt.quadratic_model(self.loss, y, None, method)

    def hessian(self, y: Any, u: Any) -> jax.Array:
        """What jax has: forward over reverse, or reverse over reverse."""
        try:
            product = jax.jvp(jax.grad(self.loss), (y,), (u,))[1]
        except Exception:
            product = jax.grad(lambda y: curvopt.tree_dot(jax.grad(self.loss)(y), u))(y)
        return curvopt.tree_dot(product, u)

    def has(self, differentiate: Callable, *args: Any) -> bool:
        """Whether jax has some derivative: a few fail when they are compiled."""
        try:
            jax.jit(differentiate).lower(*args).compile()
        except Exception:
            return False
        return True


def _refusal(example: _Example, error: Exception) -> Row:
    """Only what jax refuses too may be refused."""
    if example.has(example.hessian, example.y, example.u):
        raise Failure(f"refused, but jax differentiates it: {error}") from error
    named = re.search("differentiated through the primitive (`.*?`)", str(error))
    primitive = f"{named[1]}: " if named else ""
    order = 2 if example.has(jax.grad(example.loss), example.y) else 1
    return Row(REFUSED, f"{primitive}jax has no {_ORDERS[order]} derivative")


def _rules(report: Any) -> Row:
    """The verdict by the rules of the equations before the outputs."""
    marks = [k for k, e in enumerate(report.equations) if e.primitive == _MARK]
    special, generic = set(), {}
    for equation in report.equations[: marks[-1]]:
        rule = equation.rule.partition(",")[0]
        if rule in ("generic", "reverse over reverse"):
            generic.setdefault(rule, set()).update(equation.primitive.split(", "))
        else:
            special.add(rule)
    if not generic:
        return Row(EXACT, ", ".join(sorted(special)) or "no equation")
    lists = (
        f"{rule}: `{'`, `'.join(sorted(names))}`" for rule, names in sorted(generic.items())
    )
    return Row(GENERIC, "; ".join(lists))


def _check(example: _Example, rtol: float, methods: tuple[Any, ...]) -> Row:
    """The verdict on an example that has outputs to differentiate."""
    report = None

    def run(y: Any, u: Any) -> Any:
        nonlocal report
        models = [example.model(y, method) for method in methods]
        got = [model.curvature(u) for model in models]
        report = models[0].report()
        return got, models[0].grad, example.hessian(y, u)

    try:
        compiled = jax.jit(run).lower(example.y, example.u)
        compiled = compiled.compile()
    except Exception as error:
        if "no forward mode" in str(error):
            return _check(example, rtol, methods[:1])
        return _refusal(example, error)
    got, grad, expected = compiled(example.y, example.u)
    if not np.allclose(np.array(got), expected, rtol=rtol, atol=rtol / 100):
        raise Failure(f"curvature {list(map(float, got))}, but jax has {float(expected)}")
    if all(np.all(g == 0) for g in jax.tree.leaves(grad)) and expected == 0:
        return Row(CONSTANT, "its derivative is zero")
    return _rules(report)


# By what jax makes of them: many functions have several names.
_KNOWN: dict[Any, Row] = {}


def _classify(fn: Callable, names: tuple[str, ...], methods: tuple[Any, ...]) -> Row:
    example = _Example(fn, names)
    try:
        jaxpr = jax.make_jaxpr(example.outputs)(example.y)
    except _UNTRACEABLE:
        return Row(REFUSED, "jax cannot trace it: it needs concrete values")
    if not jaxpr.out_avals:
        return Row(CONSTANT, "integers, booleans or keys")
    if not example.y:
        return Row(CONSTANT, "takes no real numbers")
    text = re.sub(r"name=\w+", "", str(jaxpr))
    # Some functions compute in float32 whatever they are given.
    rtol = 1e-5 if "f32[" in text else 1e-8
    # An address may have been another function's before.
    if jaxpr.consts or "0x" in text:
        return _check(example, rtol, methods)
    key = (text, names, methods)
    if key not in _KNOWN:
        _KNOWN[key] = _check(example, rtol, methods)
    return _KNOWN[key]


def classify(module: str, name: str) -> Row:
    """The verdict on one function, in float64.

    **Raises:**

    `Failure` if there is no example, or the curvature is not that of jax.
    """
    fn = getattr(importlib.import_module(module), name)
    if inspect.isclass(fn):
        return Row(HELPER, "type")
    if name in HELPERS[module]:
        return Row(HELPER, HELPERS[module][name])
    if name in ELSEWHERE[module]:
        return Row(UNCHECKED, ELSEWHERE[module][name])
    methods = (curvopt.AdjointCurvature(), curvopt.ForwardCurvature())
    methods = methods if module in _FORWARD_TOO else methods[:1]
    with warnings.catch_warnings(), jax.enable_x64(True):
        warnings.simplefilter("ignore")
        return _classify(*_example(module, name, fn), methods)


def walk(module: str) -> tuple[dict[str, Row], dict[str, str]]:
    """The verdicts on a module's functions, and what is wrong with the others."""
    rows, failures = {}, {}
    for name in public_names(module):
        try:
            rows[name] = classify(module, name)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
    return rows, failures
