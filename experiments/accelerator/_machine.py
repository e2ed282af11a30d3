"""The machine that measurements depend on: device, versions and settings."""

import importlib.util
import os
from typing import Any

import jax

from curvopt._environment import versions

from .._origin import command, hardware


# Optional packages, and the consequence of each if it is missing.
_OPTIONAL = {
    "tyro": "the command line is read by argparse",
    "netCDF4": "results are written as JSON only",
    "msgspec": "no studies from files",
    "pooch": "no downloads",
    "sif2jax": "no CUTEst problems",
    "beartype": "no run-time type checks",
}


def _memory(device: Any) -> dict[str, int]:
    stats = device.memory_stats() or {}
    return {k: int(x) for k, x in stats.items() if k in ("bytes_limit", "bytes_in_use")}


def machine(device: Any) -> dict[str, Any]:
    """The machine as it is saved."""
    missing = {k: x for k, x in _OPTIONAL.items() if importlib.util.find_spec(k) is None}
    return {
        "command": command(),
        "device": device.device_kind,
        "platform": device.platform,
        "backend": jax.default_backend(),
        "devices": [str(x) for x in jax.devices()],
        "memory": _memory(device),
        "versions": versions(),
        "hardware": hardware(),
        "environment": {
            k: x for k, x in os.environ.items() if k.startswith(("XLA_", "JAX_"))
        },
        "missing": missing,
    }
