import curvopt


def check_single_steps(name: str, rule: curvopt.AbstractLineSearch) -> None:
    """Raise a `ValueError` if a rule needs several steps in a row on one batch. A wrapper
    that may change its step size at each step cannot provide them."""
    curvopt.check_instance(name, rule, curvopt.AbstractLineSearch)
    if rule.steps_per_batch > 1:
        raise ValueError(
            f"{name} must look at single steps, but {type(rule).__name__} looks at several "
            "in a row on one batch. Choose another line search."
        )
