import importlib.metadata
import platform

import jax


def versions() -> dict[str, str]:
    """The versions that a result depends on, and where it ran."""
    packages = ("curvopt", "jax", "jaxlib", "equinox", "optimistix", "optax", "numpy")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    device = jax.devices()[0]
    return found | {"device": f"{device.platform}: {device.device_kind}"}
