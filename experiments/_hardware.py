import os
import platform
from pathlib import Path


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return named[0] if named else platform.processor() or platform.machine()


def hardware() -> dict[str, str]:
    """What times depend on beside the versions."""
    return {
        "processor": _cpu_model(),
        "cores": str(os.cpu_count()),
        "allocator": ", ".join(
            f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("MALLOC_")
        )
        or "default",
        "system": f"{platform.system()} {platform.machine()}",
    }
