"""Compiling many small programs that each run once."""

from importlib.metadata import version


# Several test processes share the machine: one thread each is faster than all in each.
_XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false"
# Other emitters, and one module of a program rather than 32: as optimised, in 2/5 of the
# time. Later versions have only the one kind.
if version("jaxlib").startswith("0.10."):
    _XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
    _XLA_FLAGS += " --xla_cpu_parallel_codegen_split_count=1"

# For the environment, before jax is imported: XLA reads its flags once, and stops at one
# that it does not know. Processes that a test starts inherit it.
ENVIRONMENT = {"XLA_FLAGS": _XLA_FLAGS, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
