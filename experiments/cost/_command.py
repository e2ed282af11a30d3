import dataclasses
import json
import sys
from pathlib import Path

import tqdm
import xarray as xr

from .._folder import ResultsFolder
from .._names import choose, UsageError
from .._origin import command, hardware
from ._figure import figure
from ._measure import Case
from ._report import report
from ._run import cases, QUICK_SECONDS, REPEATS, run, SECONDS
from ._table import failures, table, title, unit
from ._variants import VARIANTS
from ._workloads import WORKLOADS


@dataclasses.dataclass(frozen=True)
class Cost:
    """Measure the cost of the curvature by every known method.

    Measures time, FLOPs, memory, compilation and accuracy of each method, relative to one
    value-and-gradient, on each workload at two batch sizes. Prints the tables as it goes,
    and writes results.nc, report.md and a figure after each workload.

    XLA allocates its temporary memory at every call. On Linux the allocator returns large
    blocks in between, and mapping them again can take longer than the computation:
    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000 in the environment prevents it.
    """

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    """The workloads: mlp, deep-mlp, autoencoder, lenet, resnet, transformer,
    scanned-transformer, gru."""

    methods: tuple[str, ...] = tuple(VARIANTS)
    """The methods to measure: adjoint, adjoint-two, adjoint-three,
    adjoint-bfloat16, adjoint-two-bfloat16, forward, gauss-newton, part, jvp-grad,
    linearize-grad, nested-jvp, jet, two-losses."""

    seconds: float = SECONDS
    """The seconds of timing for each workload and batch size; there are at least three
    repetitions."""

    repeats: int = REPEATS
    """The largest number of repetitions."""

    quick: bool = False
    """Run a smoke test: tiny models, one batch size, a tenth of a second each. Most of the
    time is compilation, so choose --workloads and --methods too."""

    out: Path = Path("results/cost")
    """The output folder."""

    overwrite: bool = False
    """Replace the results in the output folder."""


def _check(config: Cost) -> None:
    if not config.seconds > 0:
        raise UsageError(f"--seconds must be positive, but it is {config.seconds}.")
    if config.repeats < 1:
        raise UsageError(f"--repeats must be at least 1, but it is {config.repeats}.")


def _write(folder: ResultsFolder, data: xr.Dataset) -> Path:
    folder.save_data("results.nc", data)
    folder.save_figure("cost", figure(data))
    return folder.save_text("report.md", report(data))


def _show(case: xr.Dataset) -> None:
    lines = [f"\n{title(case)}", unit(case), table(case), *failures(case)]
    tqdm.tqdm.write("\n".join(lines), file=sys.stdout)
    sys.stdout.flush()


def cost(config: Cost) -> None:
    """Measure, print the tables and write the output folder.

    **Raises:**

    `UsageError`, before anything is compiled.
    """
    _check(config)
    workloads = choose("workload", WORKLOADS, config.workloads)
    methods = choose("method", VARIANTS, config.methods)
    folder = ResultsFolder(config.out, config.overwrite)
    seconds = min(config.seconds, QUICK_SECONDS) if config.quick else config.seconds
    attributes = {
        "command": command(),
        "configuration": repr(config),
        "hardware": json.dumps(hardware()),
    }
    measured_on = cases(workloads, config.quick)
    steps = sum(map(len, measured_on.values())) * (len(methods) + 2)
    path = folder.path
    with tqdm.tqdm(total=steps, file=sys.stderr, leave=False) as bar:

        def progress(case: Case, doing: str) -> None:
            bar.set_description(f"{case.workload}, {case.batch_size}: {doing}")
            bar.update()

        for data in run(
            measured_on,
            methods,
            seconds=seconds,
            repeats=config.repeats,
            attributes=attributes,
            progress=progress,
            measured=_show,
        ):
            path = _write(folder, data)
    print(f"\nreport: {path}")
