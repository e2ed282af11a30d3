import dataclasses
import json
import shlex
import sys
from pathlib import Path

import tqdm
import xarray as xr

from .._catalogue import choose, UsageError
from .._results import ResultsFolder
from ._dataset import dataset
from ._figure import figure
from ._hardware import hardware
from ._measure import Case, measure
from ._report import report
from ._table import failures, table, title, unit
from ._variants import VARIANTS
from .workloads import Workload, WORKLOADS


_QUICK_BATCH_SIZES = (4,)
_QUICK_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Cost:
    """Measure what the curvature costs, by every known way to have it.

    Time, FLOPs, memory, compilation and accuracy of each method, over one
    value-and-gradient, on each workload at two batch sizes. Prints the tables as it
    goes; writes results.nc, report.md and a figure, again after each workload.

    XLA sets its temporary memory aside anew at every call. On Linux the allocator gives
    large pieces back in between, and mapping them again can take longer than computing:
    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000 in the environment prevents it.
    """

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    """What to measure on: mlp, deep-mlp, autoencoder, lenet, resnet, transformer,
    scanned-transformer, gru."""

    methods: tuple[str, ...] = tuple(VARIANTS)
    """What to measure beside the gradient: adjoint, adjoint-two, adjoint-three,
    adjoint-bfloat16, forward, gauss-newton, part, jvp-grad, linearize-grad, nested-jvp,
    jet, two-losses."""

    seconds: float = 10.0
    """How long the timing of a workload at one batch size goes on; three repetitions are
    made in any case."""

    repeats: int = 300
    """How many repetitions it makes at most."""

    quick: bool = False
    """Tiny models, one batch size, a tenth of a second each: only to see that everything
    works. What takes its time is compilation; choose --workloads and --methods."""

    out: Path = Path("results/cost")
    """The folder to write to."""

    overwrite: bool = False
    """Replace the results that are in the folder."""


def _check(config: Cost) -> None:
    if not config.seconds > 0:
        raise UsageError(f"--seconds must be positive, but it is {config.seconds}.")
    if config.repeats < 1:
        raise UsageError(f"--repeats must be at least 1, but it is {config.repeats}.")


def _cases(name: str, workload: Workload, quick: bool) -> list[Case]:
    build = workload.tiny if quick else workload.full
    count = build if workload.loop_free is None else workload.loop_free(build)
    sizes = _QUICK_BATCH_SIZES if quick else workload.batch_sizes
    return [Case(name, workload.label, build, count, size) for size in sizes]


def _write(folder: ResultsFolder, data: xr.Dataset) -> Path:
    folder.save_data("results.nc", data)
    folder.save_figure("cost", figure(data))
    return folder.save_text("report.md", report(data))


def _show(case: xr.Dataset) -> None:
    lines = [f"\n{title(case)}", unit(case), table(case), *failures(case)]
    tqdm.tqdm.write("\n".join(lines), file=sys.stdout)
    sys.stdout.flush()


def cost(config: Cost) -> None:
    """Measure, print the tables, write the folder.

    **Raises:**

    `UsageError`, before anything is compiled.
    """
    _check(config)
    workloads = choose("workload", WORKLOADS, config.workloads)
    methods = choose("method", VARIANTS, config.methods)
    folder = ResultsFolder(config.out, config.overwrite)
    seconds = min(config.seconds, _QUICK_SECONDS) if config.quick else config.seconds
    builders = {n: w.tiny if config.quick else w.full for n, w in workloads.items()}
    attributes = {
        "command": "python -m experiments " + shlex.join(sys.argv[1:]),
        "configuration": repr(config),
        "models": json.dumps({name: repr(build) for name, build in builders.items()}),
        "hardware": json.dumps(hardware()),
    }

    cases = {n: _cases(n, w, config.quick) for n, w in workloads.items()}
    steps = sum(map(len, cases.values())) * (len(methods) + 2)
    measured, path = [], folder.path
    with tqdm.tqdm(total=steps, file=sys.stderr, leave=False) as bar:
        for of_workload in cases.values():
            for case in of_workload:

                def progress(doing: str, case: Case = case) -> None:
                    bar.set_description(f"{case.workload}, {case.batch_size}: {doing}")
                    bar.update()

                rows = measure(
                    case,
                    methods,
                    seconds=seconds,
                    repeats=config.repeats,
                    progress=progress,
                )
                measured.append((case, rows))
                _show(dataset(measured[-1:], {}).isel(case=0))
            path = _write(folder, dataset(measured, attributes))
    print(f"\nreport: {path}")
