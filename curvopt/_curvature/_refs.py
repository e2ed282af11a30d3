"""Refuses a `jax.Ref` in a loss, whose derivative would be lost: it passes through writes,
which the sweeps do not follow, nor jax's reverse mode in the body of a scan."""

from collections.abc import Iterator
from typing import Any

from .. import _compat, _jaxpr


def _is_ref(atom: Any) -> bool:
    return hasattr(getattr(atom, "aval", None), "inner_aval")


def on_refs(jaxpr: Any) -> Iterator[Any]:
    """The equations of a jaxpr, at any depth, that make, read or write a `jax.Ref`. The
    bodies of kernels are left out: they have refs in place of their array arguments."""
    for eqn in _jaxpr.open_jaxpr(jaxpr)[0].eqns:
        if any(map(_is_ref, (*eqn.invars, *eqn.outvars))):
            yield eqn
        for inner in _jaxpr.inner_jaxprs(eqn):
            if not any(map(_is_ref, inner.invars)):
                yield from on_refs(inner)


def _made_in_scans(jaxpr: Any) -> Iterator[Any]:
    for eqn in _jaxpr.open_jaxpr(jaxpr)[0].eqns:
        is_scan = _compat.scan_parts(eqn) is not None
        for inner in _jaxpr.inner_jaxprs(eqn):
            made = (own for own in on_refs(inner) if any(map(_is_ref, own.outvars)))
            yield from made if is_scan else _made_in_scans(inner)


def _refusal(eqn: Any, why: str, remedy: str) -> TypeError:
    ref = next(v.aval for v in (*eqn.outvars, *eqn.invars) if _is_ref(v))
    return TypeError(
        f"the loss uses a jax.Ref, {ref} ({_jaxpr.source(eqn)}), {why}. Use an array "
        f"instead{remedy}."
    )


def check_refs_of_scans(jaxpr: Any) -> None:
    """Raise if a loss makes a ref in the body of a scan.

    **Raises:**

    `TypeError` naming the ref and its line in the loss.
    """
    for eqn in _made_in_scans(jaxpr):
        why = "made in the body of a scan, where jax's reverse mode loses its derivative"
        raise _refusal(eqn, why, " (in a loop, in the carry)")


def check_no_refs(jaxpr: Any) -> None:
    """Raise if a loss makes, reads or writes any ref.

    **Raises:**

    `TypeError` naming the ref and its line in the loss.
    """
    check_refs_of_scans(jaxpr)
    for eqn in on_refs(jaxpr):
        why = "whose derivative the curvature's sweeps would lose"
        raise _refusal(eqn, why, ", or use curvature=curvopt.HvpCurvature()")
