import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import xarray as xr

from ._dataset import dataset
from ._measure import Case, measure, Row
from ._variants import Variant
from .workloads import Workload


# The limits of a timing, where nothing else is wanted: seconds, repetitions; and what is
# enough to see that everything works.
SECONDS, REPEATS = 10.0, 300
QUICK_SECONDS = 0.1

_QUICK_BATCH_SIZES = (4,)


def _cases(name: str, workload: Workload, quick: bool) -> list[Case]:
    build = workload.tiny if quick else workload.full
    count = build if workload.loop_free is None else workload.loop_free(build)
    sizes = _QUICK_BATCH_SIZES if quick else workload.batch_sizes
    return [Case(name, workload.label, build, count, size) for size in sizes]


def cases(workloads: Mapping[str, Workload], quick: bool) -> dict[str, list[Case]]:
    """What is measured on: each workload at its batch sizes, or a tiny one at one."""
    return {name: _cases(name, x, quick) for name, x in workloads.items()}


def run(
    by_workload: Mapping[str, list[Case]],
    methods: Mapping[str, Variant],
    *,
    seconds: float = SECONDS,
    repeats: int = REPEATS,
    attributes: Mapping[str, str] | None = None,
    progress: Callable[[Case, str], Any] = lambda case, doing: None,
    measured: Callable[[xr.Dataset], Any] = lambda case: None,
) -> Iterator[xr.Dataset]:
    """Measure methods on cases.

    **Arguments:**

    - `of`: the cases, by workload.
    - `methods`: beside the gradient.
    - `seconds`, `repeats`: limits of the timing of a case.
    - `attributes`: of the dataset, beside versions and models.
    - `progress`: called with what comes next, `len(methods) + 2` times for each case.
    - `measured`: called with each case once it is measured.

    **Returns:**

    After each workload, all that is measured so far.
    """
    models = {name: repr(each[0].build) for name, each in by_workload.items()}
    attributes = {"models": json.dumps(models), **(attributes or {})}
    so_far: list[tuple[Case, Mapping[str, Row]]] = []
    for of_workload in by_workload.values():
        for case in of_workload:

            def doing(what: str, case: Case = case) -> None:
                progress(case, what)

            rows = measure(case, methods, seconds=seconds, repeats=repeats, progress=doing)
            so_far.append((case, rows))
            measured(dataset(so_far[-1:], {}).isel(case=0))
        yield dataset(so_far, attributes)
