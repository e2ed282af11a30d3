"""The origin of a result: command, commit, versions and machine."""

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def command(without: Sequence[str] = ()) -> str:
    """The running command, optionally without some options and their values."""
    words, left_out = [], False
    for word in sys.argv[1:]:
        if not left_out and word not in without:
            words.append(word)
        left_out = not left_out and word in without
    return "python -m experiments " + shlex.join(words)


def _commit() -> str:
    """The code's commit, followed by `+` if files were changed since."""

    def git(*args: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", *args], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return named[0] if named else platform.processor() or platform.machine()


def hardware() -> dict[str, str]:
    """The machine's properties that times depend on."""
    return {
        "processor": _cpu_model(),
        "cores": str(os.cpu_count()),
        "allocator": ", ".join(
            f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("MALLOC_")
        )
        or "default",
        "system": f"{platform.system()} {platform.machine()}",
    }


def origin(without: Sequence[str] = ()) -> dict[str, str]:
    """The origin as attributes of a dataset.

    **Arguments:**

    - `without`: options of the command that do not affect the result.
    """
    from curvopt._environment import versions  # imports jax, which `hardware` does not

    return {
        "command": command(without),
        "commit": _commit(),
        "versions": json.dumps(versions()),
        "hardware": json.dumps(hardware()),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
