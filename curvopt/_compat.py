"""Everything that depends on jax's version, or on what jax does not promise in public."""

from typing import Any, NamedTuple

import jax


# Call primitives that only group equations, and the parameter that holds the equations:
# inlining them changes no derivative. jax 0.12 renamed `closed_call` to `eval_jaxpr`.
INLINED = {"jit": "jaxpr", "closed_call": "call_jaxpr", "eval_jaxpr": "call_jaxpr"}


# With `jax_custom_jvp3`, `jax_custom_vjp3` and `jax_remat3` equations of these names are
# all of the primitive `call_hi_primitive`, with an object of one of these classes.
_HIGH_LEVEL = {
    "CustomJVPTraced": "custom_jvp_call",
    "CustomVJPTraced": "custom_vjp_call",
    "RematTraced": "remat2",
    "CheckpointName": "name",
}


def primitive_name(eqn: Any) -> str:
    """The name of an equation's primitive, the same under all settings of jax."""
    if eqn.primitive.name != "call_hi_primitive":
        return eqn.primitive.name
    prim = eqn.params["_prim"]
    kind = type(prim).__name__
    if kind == "VmapOf" and type(prim.prim).__name__ != "RematTraced":  # jax 0.10
        kind = type(prim.prim).__name__
    return _HIGH_LEVEL.get(kind, kind)


def parameters(eqn: Any) -> dict[str, Any]:
    """The parameters of an equation, under the same names under all settings of jax."""
    if eqn.primitive.name != "call_hi_primitive":
        return eqn.params
    prim = eqn.params["_prim"]
    params = {"prevent_cse": True} | getattr(prim, "prim", prim).params
    traced = params.pop("traced", None)
    return params if traced is None else params | {"call_jaxpr": traced.jaxpr}


def is_traced(x: Any) -> bool:
    """Whether a value is a tracer, unknown inside a transformation."""
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
    # jax has no public API for the key-value store of `jax.distributed`.
    from jax._src import distributed

    return distributed.global_state.client


def tell_processes(key: str, text: str) -> None:
    """Store a text where all processes of `jax.distributed` can read it."""
    _coordinator().key_value_set(key, text, allow_overwrite=True)


def ask_processes(key: str) -> str | None:
    """The text stored under a key; `None` if there is none."""
    try:
        return _coordinator().key_value_try_get(key)
    except jax.errors.JaxRuntimeError:  # not found
        return None


def leave_processes() -> None:
    """Let this process end without waiting for the others: jax would wait two minutes for
    one that has already ended."""
    from jax._src import distributed

    distributed.global_state.client = None
