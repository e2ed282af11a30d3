import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import xarray as xr

from ._dataset import dataset
from ._measure import Case, measure, Row
from ._variants import Variant
from ._workloads import Workload


# The default limits of a timing, and the seconds of a smoke test.
SECONDS, REPEATS = 10.0, 300
QUICK_SECONDS = 0.1

_QUICK_BATCH_SIZES = (4,)


def _cases(name: str, workload: Workload, quick: bool) -> list[Case]:
    build = workload.tiny if quick else workload.full
    count = build if workload.loop_free is None else workload.loop_free(build)
    sizes = _QUICK_BATCH_SIZES if quick else workload.batch_sizes
    return [Case(name, workload.label, build, count, size) for size in sizes]


def cases(workloads: Mapping[str, Workload], quick: bool) -> dict[str, list[Case]]:
    """The cases of each workload: its batch sizes, or one tiny case in a smoke test."""
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

    - `by_workload`: the cases, by workload.
    - `methods`: the methods to measure, besides the gradient.
    - `seconds`, `repeats`: the limits of the timing of a case.
    - `attributes`: attributes of the dataset, besides versions and models.
    - `progress`: called with the name of each next part, `len(methods) + 2` times a case.
    - `measured`: called with each case once it is measured.

    **Returns:**

    After each workload, all measurements so far.
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
