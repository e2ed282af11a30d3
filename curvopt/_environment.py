"""What results depend on besides the code: versions, and settings of the compiler."""

import importlib.metadata
import os
import platform

import jax


def version(distribution: str) -> str:
    """The version of an installed distribution."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


# The name `curvopt` on PyPI belongs to another project.
__version__ = version("curvopt-jax")


def versions() -> dict[str, str]:
    """The versions that a result depends on, and where it ran."""
    packages = ("jax", "jaxlib", "equinox", "optimistix", "optax", "numpy")
    found = {"python": platform.python_version(), "curvopt": __version__}
    found |= {name: version(name) for name in packages}
    device = jax.devices()[0]
    return found | {"device": f"{device.platform}: {device.device_kind}"}


def settings() -> dict[str, str]:
    """The settings of jax and of the compiler that change numbers."""
    names = (
        "jax_enable_x64",
        "jax_default_matmul_precision",
        "jax_default_prng_impl",
        "jax_threefry_partitionable",
    )
    flags = os.environ.get("XLA_FLAGS", "").split()
    # The number of devices is compared separately; dumps change no numbers.
    kept = [x for x in flags if "device_count" not in x and "xla_dump" not in x]
    found = {name: str(getattr(jax.config, name)) for name in names}
    # Not an attribute of `jax.config`, unlike the others.
    quick = jax.config.read("jax_disable_most_optimizations")
    return found | {
        "jax_disable_most_optimizations": str(quick),
        "XLA_FLAGS": " ".join(sorted(kept)),
    }
