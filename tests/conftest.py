import os


# Several test processes share the machine: one thread each is faster than all in each.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import jaxtyping
import pytest


@pytest.fixture
def x64():
    """float64 for the length of a test: the oracle's precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Both precisions; float64 is switched on for its tests only."""
    with jax.enable_x64(request.param == "float64"):
        yield jax.numpy.dtype(request.param)


@pytest.fixture
def unchecked():
    """Without run-time type checks, as users have it: our own errors are to be seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
