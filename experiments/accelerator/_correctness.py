"""Is the curvature right on the device? Against float64 on the host."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ..cost import VARIANTS, WORKLOADS
from ..cost._reference import reference_curvature
from ..cost._variants import OTHER_QUANTITIES
from ._bench import Bench, first_line, host, left_out, Row, Rows
from ._lanes import lanes
from ._models import built_on
from ._programs import compile_all, lower, precision, Program


PRECISIONS = "default", "highest"

# Relative errors of a plain product of standard normal matrices, by what its factors are
# rounded to: 24, 11 and 8 bits.
_NAMES = ((1e-5, "float32"), (1e-3, "TF32"), (1e-2, "bfloat16"))

# Above it a value is called wrong, in full precision and in less.
TOLERANCE = {"float32": 1e-3}
_LOOSE = 0.1


def _product(bench: Bench, matmul: str) -> Row:
    """The error of one product, and how many FLOPs XLA counts for it."""
    n = 64 if bench.quick else 1024
    a, b = np.random.default_rng(0).standard_normal((2, n, n)).astype(np.float32)
    operands = jax.device_put((a, b), bench.device)
    with precision(matmul):
        compiled = jax.jit(jnp.matmul).lower(*operands).compile()
    found = np.asarray(compiled(*operands), np.float64)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    name = next((name for bound, name in _NAMES if error < bound), "WRONG")
    counted = float((compiled.cost_analysis() or {}).get("flops", np.nan))
    return {
        "what": "a product",
        "precision": matmul,
        "arithmetic": name,
        "relative_error": error,
        "flops_counted": counted / (2 * n**3),
        "wrong": name == "WRONG",
    }


def _methods(matmul: str) -> list[str]:
    exact = [k for k in VARIANTS if k not in (*OTHER_QUANTITIES, "two-losses")]
    # The sweep alone is in bfloat16: once is enough.
    return [k for k in exact if k != "adjoint-bfloat16" or matmul == "highest"]


def _judged(name: str, found: float, exact: float, arithmetic: str) -> Row:
    error = abs(found - exact) / abs(exact) if exact else np.nan
    reduced = "bfloat16" in name
    bound = _LOOSE if reduced else TOLERANCE.get(arithmetic, _LOOSE)
    return {
        "curvature": found,
        "relative_error": float(error),
        # Not a number is wrong, too.
        "wrong": not error <= bound,
    }


def _of_workload(bench: Bench, name: str, arithmetic: dict[str, str]) -> Rows:
    workload = WORKLOADS[name]
    build = workload.tiny if bench.quick else workload.full
    batch_size = 4 if bench.quick else workload.batch_sizes[0]
    instance = built_on(bench.device, build, batch_size)
    # Compiled at its first call, in whichever thread that is.
    with jax.default_device(host()):
        reference = reference_curvature(built_on(host(), build, batch_size))

    def compared(key: str, program: Program) -> Row:
        method, matmul = key.split()
        _, _, grad, curvature = jax.device_get(program.run())
        with jax.default_device(host()):
            exact = reference(jtu.tree_map(np.negative, grad))
        return _judged(method, float(curvature), exact, arithmetic[matmul])

    lowers = {
        f"{method} {matmul}": lower(
            partial(VARIANTS[method].expand, instance.loss),
            instance.y,
            instance.args,
            matmul=matmul,
        )
        for matmul in PRECISIONS
        for method in _methods(matmul)
    }
    for key, found in compile_all(bench, lowers, compared).items():
        method, matmul = key.split()
        row = {"what": name, "method": method, "precision": matmul}
        yield row | ({"failure": found} if isinstance(found, str) else found)


def correctness(bench: Bench) -> Rows:
    """A product, a study's lanes, and the curvature of every workload by every method that
    is exact, in each precision."""
    arithmetic = {}
    for matmul in PRECISIONS:
        row = _product(bench, matmul)
        arithmetic[matmul] = row["arithmetic"]
        yield row
    for name in WORKLOADS:
        if bench.late:
            yield {"what": name, "failure": left_out()}
            continue
        try:
            yield from _of_workload(bench, name, arithmetic)
        except Exception as error:
            yield {"what": name, "failure": first_line(error)}
        jax.clear_caches()
    yield from _tried("lanes of a study", bench, lanes)


def _tried(what: str, bench: Bench, measure: Any) -> Rows:
    try:
        yield from measure(bench)
    except Exception as error:
        yield {"what": what, "failure": first_line(error)}
