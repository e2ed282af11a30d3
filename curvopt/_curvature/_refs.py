"""A `jax.Ref` in a loss: its derivative travels through what is written, which neither the
sweeps nor, in the body of a scan, jax's reverse mode follow. It is refused, not dropped."""

from collections.abc import Iterator
from typing import Any

from .. import _compat


def _made_in_scans(jaxpr: Any) -> Iterator[Any]:
    for eqn in _compat.open_jaxpr(jaxpr)[0].eqns:
        is_scan = _compat.scan_parts(eqn) is not None
        for inner in _compat.inner_jaxprs(eqn):
            made = filter(_compat.makes_ref, _compat.on_refs(inner))
            yield from made if is_scan else _made_in_scans(inner)


def _refusal(eqn: Any, why: str, remedy: str) -> TypeError:
    return TypeError(
        f"the loss uses a jax.Ref, {_compat.ref_type(eqn)} ({_compat.source(eqn)}), {why}. "
        f"Let the loss pass on its number as an array{remedy}."
    )


def check_refs_of_scans(jaxpr: Any) -> None:
    """Refuse a loss that makes a ref in the body of a scan.

    **Raises:**

    `TypeError` naming the ref, and the line of the loss.
    """
    for eqn in _made_in_scans(jaxpr):
        why = "made in the body of a scan, where jax's reverse mode loses its derivative"
        raise _refusal(eqn, why, " (in a loop: in the carry)")


def check_no_refs(jaxpr: Any) -> None:
    """Refuse a loss that makes, reads or writes any ref.

    **Raises:**

    `TypeError` naming the ref, and the line of the loss.
    """
    check_refs_of_scans(jaxpr)
    for eqn in _compat.on_refs(jaxpr):
        why = "whose derivative the curvature's sweeps would lose"
        raise _refusal(eqn, why, ", or use curvature=curvopt.HvpCurvature()")
