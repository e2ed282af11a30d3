"""Compiled programs, kept from one command to the next."""

import hashlib
import os
from pathlib import Path

import jax
import pooch


# What names a processor and its instructions on Linux: on x86, and on Arm.
_IDENTITY = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "CPU revision",
    "Features",
)

# A program takes about 20 kB.
_MOST_BYTES = 2**28


def _processors(description: Path = Path("/proc/cpuinfo")) -> str | None:
    """A digest of the processors that this process may use; `None` where the system does
    not describe their instructions."""
    try:
        pairs = [line.partition(":") for line in description.read_text().splitlines()]
    except OSError:
        return None
    found = {(k.strip(), x.strip()) for k, _, x in pairs if k.strip() in _IDENTITY}
    if not {"flags", "Features"} & {name for name, _ in found}:
        return None
    # XLA divides the work of a program by the number of processors.
    text = repr((sorted(found), len(os.sched_getaffinity(0))))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _forget(folder: Path, most: int) -> None:
    """Delete the oldest files, until those left have at most so many bytes."""
    files = [(x.stat().st_mtime, x.stat().st_size, x) for x in folder.iterdir()]
    for _, size, path in sorted(files, reverse=True):
        most -= size
        if most < 0:
            path.unlink(missing_ok=True)


def keep_programs(keep: bool) -> None:
    """Keep the programs that this process compiles in the user's cache folder, for the next
    process that would compile the same.

    jax finds a program by its code, the versions and the compiler's options, but not by the
    processor: one that lacks an instruction would be stopped by it. So each kind of
    processor has a folder; where the system does not tell which kind it is, nothing is
    kept. jax's own settings of its cache come first.
    """
    names = "jax_compilation_cache_dir", "jax_enable_compilation_cache"
    chosen, enabled = (getattr(jax.config, name) for name in names)
    processors = _processors()
    if not keep or chosen is not None or not enabled or processors is None:
        return
    folder = Path(pooch.os_cache("curvopt")) / "programs" / processors
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget(folder, _MOST_BYTES)
    except OSError:  # full, or not the user's to write to: it is a cache
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # A study has a hundred small programs beside its few large ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
