import dataclasses
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from .._names import choose, UsageError
from ._bench import attempted, Bench, compilers, Row, Rows
from ._compile import compilation
from ._correctness import correctness
from ._cost import cost
from ._machine import machine
from ._products import products
from ._report import report, section_report, wrong
from ._throughput import throughput


# The sections in order, with their shares of the time. Time that one does not use is left
# to the next.
SECTIONS: dict[str, tuple[float, Callable[[Bench], Rows]]] = {
    "cost": (40, cost),
    "throughput": (25, throughput),
    "correctness": (20, correctness),
    "products": (10, products),
    "compile": (5, compilation),
}


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Measure cost and correctness on an accelerator.

    Measures the cost of all methods on large models, steps per second over all lanes,
    curvatures against float64 on the host, two products against three, and compilation. It
    needs only the packages that curvopt imports, and no network. Results are written as it
    goes: a file for each section, and report.md.

    On a GPU compilation is most of the time, because XLA tries many kernels for each
    product. XLA_FLAGS=--xla_gpu_autotune_level=0 compiles in seconds, but is only good for
    correctness: on an H200 its kernels were up to 20 times slower, with other ratios of
    costs. Worth a try is XLA_FLAGS=--xla_gpu_enable_triton_gemm=false, which leaves matrix
    products to the library, whose kernels are few.
    """

    quick: bool = False
    """Run a smoke test with tiny models."""

    out: Path = Path("results/accelerator")
    """The output folder; its files are replaced."""

    minutes: float = 8.0
    """The time limit; the report lists what did not fit."""

    sections: tuple[str, ...] = tuple(SECTIONS)
    """The sections: cost, throughput, correctness, products, compile."""


class _Folder:
    """A folder whose files are complete or absent."""

    def __init__(self, path: Path):
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.save("report.md", "")
        except OSError as error:
            raise UsageError(
                f"the output folder {path} is not writable: {error}. Choose another "
                "with --out."
            ) from error

    def save(self, name: str, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        partial = self._path / f".partial-{name}"
        partial.write_text(text, "utf-8")
        os.replace(partial, self._path / name)


def _rows(name: str, bench: Bench, save: Callable[[list[Row]], None]) -> list[Row]:
    """The rows of a section, saved one by one; an error ends this section only."""
    rows: list[Row] = []
    for row in attempted({"what": name}, bench, lambda: SECTIONS[name][1](bench)):
        rows.append(row)
        save(rows)
    return rows


def accelerator(config: Accelerator) -> None:
    """Measure, print the tables and write the output folder.

    **Raises:**

    `UsageError`, before anything is compiled.
    """
    if not config.minutes > 0:
        raise UsageError(f"--minutes must be positive, but it is {config.minutes}.")
    chosen = choose("section", SECTIONS, config.sections)
    folder = _Folder(config.out)
    began = time.monotonic()
    device = jax.local_devices()[0]
    about = machine(device)
    folder.save("machine.json", about)
    print(report(about, {}), flush=True)
    measured: dict[str, list[Row]] = {}
    with ThreadPoolExecutor(compilers()) as pool:
        total, share = sum(weight for weight, _ in chosen.values()), 0
        for name in (name for name in SECTIONS if name in chosen):
            share += SECTIONS[name][0]
            deadline = began + 60 * config.minutes * share / total
            bench = Bench(device, config.quick, deadline, pool)
            start = time.monotonic()
            rows = _rows(name, bench, lambda rows, n=name: folder.save(f"{n}.json", rows))
            measured[name] = rows
            about["seconds"] = about.get("seconds", {}) | {name: time.monotonic() - start}
            folder.save("machine.json", about)
            folder.save("report.md", report(about, measured))
            print(f"\n{section_report(name, rows)}", flush=True)
        # Programs that still wait for a compiler must not delay the end.
        pool.shutdown(cancel_futures=True)
    for line in wrong(measured):
        print(f"WRONG: {line}", flush=True)
    print(f"\nreport: {config.out / 'report.md'}, {time.monotonic() - began:.0f} s")
