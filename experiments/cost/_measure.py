import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

import curvopt

from .._formatting import first_line
from .._timing import interleaved, quartiles
from ._instance import Instance
from ._reference import reference_curvature
from ._variants import GRADIENT, gradient, Variant
from ._workloads import Builder


@dataclasses.dataclass(frozen=True)
class Case:
    """A workload at one batch size.

    **Attributes:**

    - `workload`, `label`: its name on the command line, and in tables and figures.
    - `build`: makes the loss that is run.
    - `count`: makes the loss on which XLA counts FLOPs, without loops.
    - `batch_size`: the number of examples of both.
    """

    workload: str
    label: str
    build: Builder
    count: Builder
    batch_size: int


class Row(NamedTuple):
    """The cost of one variant; `nan` where it could not be measured.

    **Attributes:**

    - `seconds`: the median time of a run.
    - `time_low`, `time_median`, `time_high`: the quartiles of its time relative to the
        gradient's in the same repetition.
    - `flops`: XLA's FLOPs of the form without loops.
    - `temporary_bytes`, `total_bytes`, `compile_seconds`: as in
        [`curvopt.cost.CompiledFunction`][].
    - `curvature`: the curvature along the variant's own negative gradient.
    - `relative_error`: its error relative to float64.
    - `repetitions`: the number of timed runs.
    - `failure`: the error if the variant fails, else empty.
    """

    seconds: float = math.nan
    time_low: float = math.nan
    time_median: float = math.nan
    time_high: float = math.nan
    flops: float = math.nan
    temporary_bytes: float = math.nan
    total_bytes: float = math.nan
    compile_seconds: float = math.nan
    curvature: float = math.nan
    relative_error: float = math.nan
    repetitions: int = 0
    failure: str = ""


def _compile(
    expand: Callable[..., Any], instance: Instance, counted: Instance | None
) -> tuple[Callable[[], Any], Row]:
    program = curvopt.cost.compile_and_analyse(
        partial(expand, instance.loss), instance.y, instance.args
    )
    flops = program.flops
    if counted is not None:
        flops = curvopt.cost.compile_and_analyse(
            partial(expand, counted.loss), counted.y, counted.args
        ).flops
    row = Row(
        flops=flops,
        temporary_bytes=program.temporary_bytes,
        total_bytes=program.total_bytes,
        compile_seconds=program.compile_seconds,
    )
    return program.run, row


def _accuracy(
    reference: Callable[[PyTree], float], grad: PyTree, curvature: Any
) -> dict[str, float]:
    exact = reference(jtu.tree_map(jnp.negative, grad))
    found = float(curvature)
    error = abs(found - exact) / abs(exact) if exact else math.nan
    return {"curvature": found, "relative_error": error}


def measure(
    case: Case,
    variants: Mapping[str, Variant],
    *,
    seconds: float,
    repeats: int,
    progress: Callable[[str], Any] = lambda doing: None,
) -> dict[str, Row]:
    """Measure all variants on one case, with interleaved timing.

    If a variant fails its error is recorded, not raised.

    **Arguments:**

    - `case`: the case.
    - `variants`: the variants to measure, besides the gradient.
    - `seconds`, `repeats`: the limits of the timing.
    - `progress`: called with the name of each next part, `len(variants) + 2` times.

    **Returns:**

    A row for the gradient and for each variant.
    """
    instance = case.build(case.batch_size)
    counted = None if case.count is case.build else case.count(case.batch_size)
    programs: dict[str, Callable[[], Any]] = {}
    rows: dict[str, Row] = {}

    progress(f"{GRADIENT} and reference")
    programs[GRADIENT], rows[GRADIENT] = _compile(gradient, instance, counted)
    reference = reference_curvature(instance)
    for name, variant in variants.items():
        progress(name)
        try:
            run, row = _compile(variant.expand, instance, counted)
            _, _, grad, curvature = run()
            rows[name] = row._replace(**_accuracy(reference, grad, curvature))
            programs[name] = run
        except Exception as error:
            rows[name] = Row(failure=first_line(error))

    progress("timing")
    programs[GRADIENT]()
    times = interleaved(list(programs.values()), seconds=seconds, repeats=repeats)
    low, middle, high = quartiles(times)
    for k, name in enumerate(programs):
        rows[name] = rows[name]._replace(
            seconds=float(np.median(times[:, k])),
            time_low=float(low[k]),
            time_median=float(middle[k]),
            time_high=float(high[k]),
            repetitions=len(times),
        )
    # The programs of this case are not run again, but jax would keep them in memory.
    jax.clear_caches()
    return rows
