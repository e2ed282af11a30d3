"""Every public function of jax has a verdict, and `COVERAGE.md` says which."""

import generate
import pytest
from jax_walk import (
    ELSEWHERE,
    EXAMPLES,
    FOLDER,
    HELPERS,
    MODULES,
    public_names,
    VERSION,
    walk,
)


STALE = "stale: run python tests/curvopt/curvature/coverage/generate.py"


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_every_function_has_a_verdict_that_holds(module):
    """A version of jax that nothing was recorded under is verified, not compared."""
    rows, failures = walk(module)
    assert not failures, "\n".join(f"{name}: {why}" for name, why in failures.items())
    known = generate.recorded().get(VERSION)
    if known is not None:
        assert rows == known[module], STALE


def test_the_table_is_that_of_the_verdicts():
    assert (FOLDER / "COVERAGE.md").read_text() == generate.render(generate.recorded()), (
        STALE
    )


def test_no_entry_of_the_tables_is_for_nothing():
    """Names of other versions are known by what was recorded under them."""
    for module in MODULES:
        known = set(public_names(module))
        known = known.union(*(rows[module] for rows in generate.recorded().values()))
        assert {*EXAMPLES[module], *HELPERS[module], *ELSEWHERE[module]} <= known
