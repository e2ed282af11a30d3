"""What a rule that decides between two single steps asks of the one that it wraps."""

import curvopt


def check_single_steps(inner: curvopt.AbstractLineSearch) -> None:
    """Raise a `ValueError` if `inner` is no line search, or wants several steps in a row
    on one batch."""
    curvopt.check_instance("inner", inner, curvopt.AbstractLineSearch)
    if curvopt.steps_per_batch(inner) > 1:
        raise ValueError(
            "inner must look at single steps, but "
            f"{type(inner).__name__} looks at several in a row on one batch."
        )
