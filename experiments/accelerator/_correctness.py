"""The correctness of the curvature on the device, against float64 on the host."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._formatting import first_line
from ..cost import VARIANTS, WORKLOADS
from ..cost._instance import Instance
from ..cost._reference import reference_curvature
from ..cost._variants import OTHER_QUANTITIES
from ._bench import attempted, Bench, host, Row, Rows
from ._lanes import lanes
from ._models import built, placed
from ._programs import compile_all, Lower, lower, precision, Program


PRECISIONS = "default", "highest"

# Methods that are inexact, or do not compute the curvature of the whole batch.
INEXACT = (*OTHER_QUANTITIES, "two-losses")

# Methods in order of importance.
_FIRST = "adjoint", "adjoint-two-bfloat16", "adjoint-bfloat16", "adjoint-two"
_METHODS = (*_FIRST, *(k for k in VARIANTS if k not in (*_FIRST, *INEXACT)))

_QUICK_WORKLOADS, _QUICK_METHODS = ("mlp",), _FIRST[:2]

# Bounds on the relative error of a product of standard normal matrices, by the precision of
# its factors: 24, 11 and 8 bits.
_NAMES = ((1e-5, "float32"), (1e-3, "TF32"), (1e-2, "bfloat16"))

# Relative errors above which a value is wrong, in full precision and in less.
_TOLERANCE, _LOOSE = 1e-3, 0.1


def _product(bench: Bench, matmul: str) -> Row:
    """The error of one product, and XLA's count of its FLOPs."""
    n = 64 if bench.quick else 1024
    a, b = np.random.default_rng(0).standard_normal((2, n, n)).astype(np.float32)
    operands = jax.device_put((a, b), bench.device)
    with precision(matmul):
        compiled = jax.jit(jnp.matmul).lower(*operands).compile()
    found = np.asarray(compiled(*operands), np.float64)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    name = next((name for bound, name in _NAMES if error < bound), "none of float's")
    counted = float((compiled.cost_analysis() or {}).get("flops", np.nan))
    return {
        "what": "a product",
        "precision": matmul,
        "arithmetic": name,
        "relative_error": error,
        "flops_counted": counted / (2 * n**3),
        "wrong": not error < _NAMES[-1][0],
    }


def _judged(method: str, found: float, exact: float, arithmetic: str) -> Row:
    error = abs(found - exact) / abs(exact) if exact else np.nan
    full = arithmetic == "float32" and "bfloat16" not in method
    return {
        "arithmetic": arithmetic,
        "curvature": found,
        "relative_error": float(error),
        # Written so that nan is wrong too.
        "wrong": not error <= (_TOLERANCE if full else _LOOSE),
    }


def _reference(instance: Instance) -> Callable[[Any], float]:
    """Maps a gradient to the curvature along its negative; the lock makes it compile only
    once."""
    lock = threading.Lock()
    with jax.default_device(host()):
        curvature = reference_curvature(instance)

    def along(grad: Any) -> float:
        with lock, jax.default_device(host()):
            return curvature(jtu.tree_map(np.negative, grad))

    return along


def _curvatures(bench: Bench, arithmetic: dict[str, str]) -> Rows:
    lowers: dict[str, Lower] = {}
    references: dict[str, Callable[[Any], float]] = {}
    instances: dict[str, Instance] = {}
    for name in _QUICK_WORKLOADS if bench.quick else WORKLOADS:
        workload = WORKLOADS[name]
        try:
            instance = built(workload, workload.batch_sizes[0], bench.quick)
            references[name] = _reference(placed(instance, host()))
            instances[name] = placed(instance, bench.device)
        except Exception as error:
            yield {"what": name, "failure": first_line(error)}
    for method in _QUICK_METHODS if bench.quick else _METHODS:
        # bfloat16 methods fix the precision of the sweep: highest for the rest is enough.
        for matmul in PRECISIONS["bfloat16" in method :]:
            for name, (loss, y, args) in instances.items():
                fn = partial(VARIANTS[method].expand, loss)
                lowers[f"{name} {method} {matmul}"] = lower(fn, y, args, matmul=matmul)

    def compared(key: str, program: Program) -> Row:
        name, method, matmul = key.split()
        _, _, grad, curvature = jax.device_get(program.run())
        exact = references[name](grad)
        return _judged(method, float(curvature), exact, arithmetic[matmul])

    for key, found in compile_all(bench, lowers, compared):
        name, method, matmul = key.split()
        row = {"what": name, "method": method, "precision": matmul}
        yield row | ({"failure": found} if isinstance(found, str) else found)


def correctness(bench: Bench) -> Rows:
    """A product, a study's lanes, and the curvature of every workload by every exact
    method, in each precision."""
    arithmetic = {}
    for matmul in PRECISIONS:
        row = _product(bench, matmul)
        arithmetic[matmul] = row["arithmetic"]
        yield row
    yield from attempted({"what": "lanes of a study"}, bench, lambda: lanes(bench))
    curvatures = lambda: _curvatures(bench, arithmetic)
    yield from attempted({"what": "curvatures"}, bench, curvatures)
