"""Where jax's versions differ, or may: what it does not promise in public."""

from typing import Any, NamedTuple

import jax


# Call primitives that only group equations, with the parameter that holds these: to inline
# them changes no derivative. `eval_jaxpr` is what jax 0.12 calls `closed_call`.
INLINED = {"jit": "jaxpr", "closed_call": "call_jaxpr", "eval_jaxpr": "call_jaxpr"}


def is_traced(x: Any) -> bool:
    """Whether a value is not known yet, inside a transformation."""
    return isinstance(x, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]


class ScanParts(NamedTuple):
    """A `scan`: its body, whose operands are constants, carries and slices, in order."""

    jaxpr: Any
    num_consts: int
    num_carry: int
    length: int
    reverse: bool
    unroll: Any


def scan_parts(eqn: Any) -> ScanParts | None:
    """The parts of a `scan`; `None` for any other equation."""
    if eqn.primitive.name != "scan":
        return None
    params = eqn.params
    if "num_consts" in params:
        num_consts, num_carry = params["num_consts"], params["num_carry"]
    else:  # since jax 0.11
        consts, carry, _ = params["ft_in"].unpack()
        num_consts, num_carry = len(consts), len(carry)
    return ScanParts(
        params["jaxpr"],
        num_consts,
        num_carry,
        params["length"],
        params["reverse"],
        params["unroll"],
    )


def _coordinator() -> Any:
    # There is no public way to the key-value store of `jax.distributed`.
    from jax._src import distributed

    return distributed.global_state.client


def tell_processes(key: str, text: str) -> None:
    """Put a text where all processes of `jax.distributed` find it."""
    _coordinator().key_value_set(key, text, allow_overwrite=True)


def ask_processes(key: str) -> str | None:
    """What a process put there; `None` if nothing."""
    try:
        return _coordinator().key_value_try_get(key)
    except jax.errors.JaxRuntimeError:  # not found
        return None


def leave_processes() -> None:
    """Do not wait for the other processes when this one ends: jax would, for two minutes,
    for one that has ended already."""
    from jax._src import distributed

    distributed.global_state.client = None
