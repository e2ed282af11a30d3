"""How much memory there is, and how many cores."""

import os
from typing import Any

import psutil


# What allocators and everything else on the machine keep for themselves.
_USABLE = 0.8


def available_memory(devices: tuple[Any, ...]) -> int:
    """Bytes that one of the devices can give to arrays."""
    found = []
    for device in devices:
        stats = device.memory_stats() if device.platform != "cpu" else None
        if stats and "bytes_limit" in stats:
            found.append(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    if len(found) < len(devices):  # the host's memory, which its devices share
        found.append(psutil.virtual_memory().available // len(devices))
    return int(_USABLE * min(found))


def cpu_count() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
