"""The speed of training on data from the host, and how long it waits for them."""

import dataclasses
import mmap
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax

import curvopt
from strategies import CurvatureRescaling, SGD

from ._formatting import markdown
from ._names import UsageError


_PIXELS, _BLOCK = 3 * 32 * 32, 2**14  # of an image; images written at once


@dataclasses.dataclass(frozen=True)
class HostData:
    """Train on memory-mapped images that do not fit into the memory.

    The images are written to a scratch file, which is deleted afterwards. Training runs in
    a process whose memory, the cache of the file included, is limited by a control group
    of Linux. The same steps are made on a part of the images that is on the device, and on
    this part as a memory map; and with the system reading ahead, as it does by default.
    Each repetition runs all of them once, in random order; the table has medians.
    """

    gigabytes: float = 8.0
    """The size of the file."""

    limit: float = 4.0
    """The limit of the memory in gigabytes; 0 for none."""

    batch_size: int = 256
    """The examples in a batch."""

    width: int = 512
    """The width of the two hidden layers."""

    steps: int = 100
    """The number of steps of each run."""

    repeats: int = 5
    """The number of repetitions."""

    file: Path | None = None
    """A file of such images to train on, which is kept; written if it is not there."""


def _write(path: Path, gigabytes: float) -> None:
    """Write random images, and leave none of them in the system's cache."""
    rng, count = np.random.default_rng(0), int(gigabytes * 1e9) // (_PIXELS * _BLOCK)
    shape = count * _BLOCK, _PIXELS
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    offset = images.offset
    del images
    with path.open("r+b") as file:
        file.seek(offset)
        for _ in range(count):
            file.write(rng.bytes(_PIXELS * _BLOCK))
        # First on the disk: only clean pages can be dropped.
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _limited_group(limit: float) -> Path:
    """A control group with a limited memory, below that of this process."""
    groups = dict(
        x.split(":", 2)[1:] for x in Path("/proc/self/cgroup").read_text().split()
    )
    first = "memory" in groups
    root = Path("/sys/fs/cgroup") / ("memory" if first else "")
    name = "memory.limit_in_bytes" if first else "memory.max"
    group = root / groups["memory" if first else ""].strip("/") / f"curvopt-{os.getpid()}"
    try:
        group.mkdir()
        (group / name).write_text(str(int(limit * 1e9)))
    except OSError as error:
        raise UsageError(
            f"--limit needs a control group that may be written: {error}. Set the limit "
            "from outside: `systemd-run --user --scope -p MemoryMax=4G .venv/bin/python -m "
            "experiments host-data --limit 0`."
        ) from error
    return group


def _within_limit(config: HostData, file: Path) -> None:
    """Train in a process of limited memory."""
    group = _limited_group(config.limit)
    inner = dataclasses.replace(config, limit=0.0, file=file)
    given = {k: x for k, x in dataclasses.asdict(inner).items() if x is not None}
    arguments = [x for k, v in given.items() for x in (f"--{k.replace('_', '-')}", str(v))]
    # Run in the child before Python starts, so that the limit holds from the beginning.
    enter = lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None
    try:
        command = [sys.executable, "-m", "experiments", "host-data", *arguments]
        subprocess.run(command, check=True, preexec_fn=enter)
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if (group / name).exists():
                peak = int((group / name).read_text()) / 1e9
                print(f"\nMost memory, cache included: {peak:.2f} of {config.limit:g} GB.")
    finally:
        group.rmdir()


def _problem(config: HostData, train: Any, **options: Any) -> curvopt.SupervisedProblem:
    make = lambda key: eqx.nn.MLP(_PIXELS, 10, config.width, 2, key=key)
    return curvopt.SupervisedProblem(
        curvopt.EquinoxModel(make),
        optax.softmax_cross_entropy_with_integer_labels,
        train,
        prepare=lambda batch: (batch[0] / 255.0, batch[1]),
        **options,
    )


def _gigabytes(x: np.ndarray) -> str:
    return f"{x.nbytes / 1e9:.1f} GB"


def _read_from_disk() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * 512


def _table(config: HostData, file: Path) -> str:
    images, ahead = (np.load(file, mmap_mode="r") for _ in range(2))
    labels = np.random.default_rng(1).integers(0, 10, len(images), dtype=np.int32)
    some = images[: 4 * _BLOCK], labels[: 4 * _BLOCK]
    size = config.batch_size
    mapped = {
        f"memory map, {_gigabytes(some[0])}": some,
        f"memory map, {_gigabytes(images)}": (images, labels),
        "the same, reading ahead": (ahead, labels),
    }
    hosts = {
        name: curvopt.HostData.from_arrays(arrays, batch_size=size)
        for name, arrays in mapped.items()
    }
    ahead.base.madvise(mmap.MADV_NORMAL)  # what `from_arrays` turns off
    on_device = _problem(config, some, batch_size=size, evaluated=1)
    problems = {f"on the device, {_gigabytes(some[0])}": on_device}
    problems |= {name: _problem(config, data) for name, data in hosts.items()}
    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling())
    found = {name: [] for name in problems}
    rng = np.random.default_rng(2)
    for repeat in range(config.repeats):
        for name in rng.permutation(list(problems)):
            data = hosts.get(name)
            waited, read = (data.waited if data else 0.0), _read_from_disk()
            run = curvopt.train(
                problems[name],
                solver,
                jax.random.key(repeat),
                steps=config.steps,
                evaluations=1,
                progress=False,
            )
            seconds = float(run.history.seconds)
            share = (data.waited - waited) / seconds if data else 0.0
            row = config.steps / seconds, 100 * share
            found[name].append((*row, (_read_from_disk() - read) / config.steps / 1e6))
    rows = [("data", "steps per second", "waiting for data", "MB read from disk a step")]
    for name, values in found.items():
        speed, share, read = np.median(values, axis=0)
        rows.append((name, f"{speed:.1f}", f"{share:.1f} %", f"{read:.2f}"))
    return markdown(rows)


def host_data(config: HostData) -> None:
    """Print the table.

    **Raises:**

    `ValueError`, before anything is written.
    """
    for name in ("batch_size", "width", "steps", "repeats"):
        curvopt.check_count(f"--{name.replace('_', '-')}", getattr(config, name))
    with tempfile.TemporaryDirectory(prefix="curvopt-") as folder:
        file = config.file or Path(folder) / "images.npy"
        if not file.exists():
            _write(file, config.gigabytes)
        if config.limit:
            return _within_limit(config, file)
        print(f"{jax.devices()[0].device_kind}, batches of {config.batch_size}\n")
        print(_table(config, file))
