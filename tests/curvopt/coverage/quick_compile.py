"""Compiling many small programs that each run once."""

from importlib.metadata import version
from typing import Any


# For the environment, before jax runs anything: XLA reads it once, and stops at a flag that
# it does not know. Several test processes share the machine: one thread each is faster than
# all in each.
XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false"
# Other emitters, and one module of a program rather than 32: as optimised, in 2/5 of the
# time. Later versions have only the one kind.
if version("jaxlib").startswith("0.10."):
    XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
    XLA_FLAGS += " --xla_cpu_parallel_codegen_split_count=1"

# For `jax.jit`: how XLA compiles fastest, and optimises least.
QUICKLY: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
