"""Two or three products in the third sweep, and ways to compute its inner products."""

import contextlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Scalar

import curvopt
from curvopt._curvature import _rules

from .._formatting import first_line
from ..cost import GRADIENT, VARIANTS
from ..cost._variants import gradient
from ._bench import attempted, Bench, host, Row, Rows
from ._clock import times
from ._correctness import PRECISIONS
from ._models import model_on
from ._programs import compile_all, Lower, lower, Program


class _Product(NamedTuple):
    """A bilinear operation. Its multiplications per number read or written decide between
    two products and three."""

    label: str
    apply: Callable[[Array, Array], Array]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def multiplications(self) -> float:
        x, w = (math.prod(shape) for shape in self.shapes)
        out = jax.eval_shape(
            self.apply, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in self.shapes)
        )
        each = self.shapes[0][-1] if len(self.shapes[1]) == 2 else w / self.shapes[1][0]
        return out.size * each / (x + w + out.size)


def _matmul(rows: int, contracted: int, columns: int) -> _Product:
    label = f"({rows} × {contracted}) ({contracted} × {columns})"
    return _Product(label, jnp.matmul, ((rows, contracted), (contracted, columns)))


def _convolution(batch: int, channels: int, size: int) -> _Product:
    apply = lambda x, w: jax.lax.conv(x, w, (1, 1), "SAME")
    shapes = (batch, channels, size, size), (channels, channels, 3, 3)
    return _Product(f"{channels} channels, 3 × 3, {batch} × {size} × {size}", apply, shapes)


def _products(quick: bool) -> list[_Product]:
    if quick:
        return [_matmul(8, 8, 8)]
    square = [_matmul(n, n, n) for n in (256, 512, 1024, 2048, 4096, 8192)]
    flat = [_matmul(8192, n, 8192) for n in (64, 128, 256, 512, 1024)]
    return square + flat + [_convolution(128, n, 16) for n in (16, 32, 64, 128, 256)]


def _loss(apply: Callable, y: tuple[Array, Array], args: None) -> tuple[Scalar, None]:
    return jnp.mean(jnp.sin(apply(*y))), None


def _expand(products: str, apply: Callable, y: Any, args: None) -> Any:
    method = curvopt.AdjointCurvature(products=products)  # pyright: ignore
    model = curvopt.quadratic_model(partial(_loss, apply), y, args, method, has_aux=True)
    return model.grad, model.curvature(jtu.tree_map(jnp.negative, model.grad))


def _of_product(programs: dict[str, Program], bench: Bench) -> Row:
    """The times with two and three products; those of the sweeps alone are without the time
    of value and gradient."""
    seconds, repeats = (0.02, 3) if bench.quick else (0.5, 20)
    timed = times(programs, GRADIENT, seconds=seconds, repeats=repeats)
    unit, two, three = (timed[k]["seconds"] for k in (GRADIENT, "two", "three"))
    of_two, of_three = (float(programs[k].run()[1]) for k in ("two", "three"))
    difference = abs(of_two - of_three) / abs(of_three) if of_three else math.nan
    return {
        "gradient_seconds": unit,
        "two": timed["two"]["time"],
        "three": timed["three"]["time"],
        "sweep_ratio": (two - unit) / (three - unit) if three > unit else math.nan,
        "difference": difference,
        "wrong": not math.isfinite(of_two) or not math.isfinite(of_three),
    }


def _two_or_three(bench: Bench) -> Rows:
    products = _products(bench.quick)
    precisions = PRECISIONS[:1] if bench.quick else PRECISIONS
    lowers: dict[str, Lower] = {}
    for product in products:
        with jax.default_device(host()):
            keys = jr.split(jr.key(0))
            y = tuple(jr.normal(k, s) for k, s in zip(keys, product.shapes))
        y = jax.device_put(y, bench.device)
        for matmul in precisions:
            name = f"{product.label}|{matmul}"
            fn = partial(gradient, partial(_loss, product.apply))
            lowers[f"{name}|{GRADIENT}"] = lower(fn, y, None, matmul=matmul)
            for count in ("two", "three"):
                fn = partial(_expand, count, product.apply)
                lowers[f"{name}|{count}"] = lower(fn, y, None, matmul=matmul)
    found = dict(compile_all(bench, lowers))
    for product in products:
        for matmul in precisions:
            label: Row = {
                "what": product.label,
                "precision": matmul,
                "multiplications": product.multiplications,
            }
            name = f"{product.label}|{matmul}"
            own = {k: found[f"{name}|{k}"] for k in (GRADIENT, "two", "three")}
            failures = [x for x in own.values() if isinstance(x, str)]
            if failures:
                yield label | {"failure": failures[0]}
                continue

            def measure(label=label, own=own) -> Rows:
                yield label | _of_product(own, bench)

            yield from attempted(label, bench, measure)


def _as_dot(adjoint: Any, second: Any) -> Scalar:
    return curvopt.tree_dot(adjoint, second)


def _as_sum(adjoint: Any, second: Any) -> Scalar:
    pairs = zip(jtu.tree_leaves(adjoint), jtu.tree_leaves(second), strict=True)
    wide = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return sum((jnp.sum(wide(a) * wide(s)) for a, s in pairs), jnp.zeros(()))


def _as_rows(adjoint: Any, second: Any) -> Scalar:
    with mock.patch.object(jax, "default_backend", lambda: "cpu"):
        return _CHOSEN(adjoint, second)


_CHOSEN = _rules._pairing

# Ways to compute the inner products of adjoints with the terms of the third sweep: those of
# elementwise chains, and of all equations.
_PAIRINGS: dict[str, dict[str, Callable]] = {
    "as it is chosen": {},
    "a dot product": {"_pairing": _as_dot},
    "a product with ones": {"_pairing": _as_rows},
    "a sum": {"_pairing": _as_sum},
    "a sum, of products too": {"_pairing": _as_sum, "tree_dot": _as_sum},
}


def _patched(inner: Lower, patches: dict[str, Callable]) -> Lower:
    def lowered() -> Any:
        with contextlib.ExitStack() as stack:
            for name, function in patches.items():
                stack.enter_context(mock.patch.object(_rules, name, function))
            return inner()

    return lowered


def _running(programs: Mapping[str, Program | str]) -> dict[str, Program | str]:
    """The programs that run, and the failures of those that do not compile or run."""
    found = dict(programs)
    for name, program in programs.items():
        if isinstance(program, Program):
            try:
                jax.block_until_ready(program.run())
            except Exception as error:  # for want of memory, say
                found[name] = first_line(error)
    return found


def _pairing(bench: Bench, name: str) -> Rows:
    loss, y, args = model_on(bench, name)
    lowers = {GRADIENT: lower(partial(gradient, loss), y, args)}
    for label, patches in _PAIRINGS.items():
        # A new function for each, or jax would reuse its trace from another patch.
        fn = partial(VARIANTS["adjoint"].expand, loss)
        lowers[label] = _patched(lower(fn, y, args), patches)
    found = _running(dict(compile_all(bench, lowers)))
    programs = {k: x for k, x in found.items() if isinstance(x, Program)}
    seconds = 0.05 if bench.quick else 2.0
    timed = times(programs, GRADIENT, seconds=seconds, repeats=20)
    unit = programs[GRADIENT].temporary_bytes
    for label in _PAIRINGS:
        row: Row = {"what": name, "precision": "default", "pairing": label}
        program = found[label]
        if isinstance(program, str):
            yield row | {"failure": program}
            continue
        curvature = float(program.run()[3])
        yield (
            row
            | timed[label]
            | {
                "temporary_ratio": program.temporary_bytes / unit if unit else math.nan,
                "curvature": curvature,
                "wrong": not math.isfinite(curvature),
            }
        )


def products(bench: Bench) -> Rows:
    """The inner products, then two against three products at several sizes."""
    for name in ("large-mlp",) if bench.quick else ("large-mlp", "transformer"):
        label = {"what": name, "pairing": "all"}
        yield from attempted(label, bench, partial(_pairing, bench, name))
    label = {"what": "two products or three"}
    yield from attempted(label, bench, partial(_two_or_three, bench))
