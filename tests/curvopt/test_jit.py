"""What studies compile does not stay for ever."""

import gc
import os
import subprocess
import sys
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from curvopt._jit import _KEPT, filter_jit, jit_by_static


class Static:
    """Compared by identity, as classes and closures are."""


def alive(references):
    gc.collect()
    return sum(reference() is not None for reference in references)


def test_few_programs_are_kept():
    traces = []

    @jit_by_static
    def double(static, x):
        traces.append(static)
        return 2 * x

    last, references = Static(), []
    for k in range(3 * _KEPT):
        static = Static()
        references.append(weakref.ref(static))
        assert double(static)(jnp.array(k)) == double(last)(jnp.array(k)) == 2 * k
    assert len(traces) == 3 * _KEPT + 1  # the one in use stays
    traces.clear()
    del static
    assert alive(references) < _KEPT


def test_what_is_no_array_goes_in_and_comes_out():
    traces = []

    @filter_jit
    def applied(fn, xs):
        traces.append(fn)
        return {"fn": fn, "out": [fn(x) for x in xs], "name": "applied"}

    for x in (np.ones(2), 2 * np.ones(2)):
        made = applied(jnp.sin, [jnp.asarray(x)])
        assert made["fn"] is jnp.sin and made["name"] == "applied"
        np.testing.assert_allclose(made["out"][0], np.sin(x), rtol=1e-6)
    assert len(traces) == 1


STUDIES = """
import gc, sys
import psutil
import curvopt
from curvopt._jit import _KEPT
from strategies import LearningRate, SGD
sys.path.insert(0, {tests!r})
from conftest import Regression

problem = Regression()
for _ in range(2 * _KEPT):
    rule = LearningRate(0.1, lambda k: 1 / (1 + k))
    solver = curvopt.LineSearchMinimiser(SGD(), rule)
    curvopt.run_study(problem, {{"a": solver}}, seeds=1, steps=2, progress=False)
    gc.collect()
    print(psutil.Process().memory_info().rss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_each_study():
    """Guards against the programs of all studies, about 15 MB for each; in a process of its
    own, since one that freed much memory does not grow."""
    code = STUDIES.format(tests=os.path.dirname(__file__))
    used = subprocess.check_output([sys.executable, "-c", code], text=True)
    used = [int(line) for line in used.split()]
    first, second = used[_KEPT - 1] - used[1], used[-1] - used[_KEPT + 1]
    assert second < first / 2
