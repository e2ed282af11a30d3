import jax
import jax.numpy as jnp
import pytest

from curvopt._study._fingerprint import fingerprint


def lowered(operation=jnp.sin, constant=1.0, *, shared=True, name="inner"):
    """A program that calls a function twice, which jax finds in its cache or not."""

    def inner(x):
        return jnp.where(x > 0, operation(x), constant * x)

    inner.__name__ = name
    inner = jax.jit(inner)

    def program(x):
        first = inner(x)
        if not shared:
            jax.clear_caches()
        return first + inner(x + 1)

    return jax.jit(program).lower(jnp.ones(3))


def test_copies_and_names_are_no_change_of_code():
    """Guards against a study that is not resumed because of what its process did before."""
    once, twice = lowered(), lowered(shared=False)
    assert once.as_text().count("func.func") < twice.as_text().count("func.func")
    assert fingerprint(once) == fingerprint(twice)
    assert fingerprint(once) == fingerprint(lowered(name="other"))
    assert fingerprint(once) == fingerprint(lowered(name="<lambda>"))


@pytest.mark.parametrize("change", [{"operation": jnp.cos}, {"constant": 2.0}])
def test_operations_and_constants_are_code(change):
    assert fingerprint(lowered()) != fingerprint(lowered(**change))
    assert fingerprint(lowered(), lowered(**change)) != fingerprint(lowered(**change))
