"""The question of the radial part: the direction, and the conclusion from known data."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import xarray as xr

import curvopt
from experiments.data import load_subset
from experiments.problems import ResNetClassifier
from experiments.research._bench import Bench
from experiments.research._settings import SETTINGS
from experiments.research.questions.radial import CONSTANT, HINDSIGHT, RADIAL, Tangential
from strategies import Adam, SGD


pytestmark = pytest.mark.host


def test_filters_do_not_move_along_themselves():
    problem = ResNetClassifier(load_subset(), (2, 4), batch_size=8)
    params, model_state = problem.init(jr.key(0))
    args = problem.batch(jr.key(1), jnp.array(0)), model_state, jr.key(2)
    model = curvopt.quadratic_model(problem.loss, params, args, has_aux=True)
    for inner in (SGD(), Adam()):
        descents = []
        for direction in (inner, Tangential(inner)):
            state = direction.init(params, key=jr.key(3))
            descents.append(direction.step(model, params, state)[0])
        whole, tangential = descents
        assert (tangential.u is tangential.fresh) == (whole.u is whole.fresh)
        leaves = zip(*map(jax.tree.leaves, (params, whole.u, tangential.u)))
        for y, u, v in leaves:
            if y.ndim < 4:
                np.testing.assert_array_equal(u, v)
                continue
            along = jnp.sum(v * y, (1, 2, 3))
            size = jnp.linalg.norm(u.reshape(len(u), -1), axis=1)
            assert jnp.all(jnp.abs(along) <= 1e-4 * size), along
            assert not jnp.allclose(u, v)


def results():
    spread = 0.01 * np.linspace(-1, 1, 8)
    names = [
        f"{direction}{without}, {rule}"
        for direction, rule in (("SGD", CONSTANT), ("Adam", CONSTANT), ("Adam", HINDSIGHT))
        for without in ("", ", tangential")
    ]
    ends = np.array([2.0, 1.5, 1.0, 1.1, 1.0, 1.0])[:, None] + spread
    ends[-1] += 1e-4 * np.tile([2, -1], 4)
    return xr.Dataset(
        {
            "train_loss": (("strategy", "seed"), ends.astype(np.float32)),
            "start": (("strategy", "seed"), np.full((6, 8), 9, np.float32)),
            "diverged": (("strategy", "seed"), np.zeros((6, 8), bool)),
            "growth": ("strategy", np.arange(1, 7).astype(np.float32)),
        },
        {"strategy": names},
        {"metric": "train_loss", "label": "a model", "steps": "10"},
    )


def test_the_conclusion():
    found = RADIAL.conclude({"resnet": results()})
    rows = found.tables["radial"]
    assert rf"SGD, {CONSTANT} & 2.000 & 1.500 & $\mathbf{{-25.0}}$ & 1.00 & 2.00" in rows
    assert rf"Adam, {CONSTANT} & 1.000 & 1.100 & $\mathbf{{+10.0}}$ & 3.00 & 4.00" in rows
    assert rf"Adam, {HINDSIGHT} & 1.000 & 1.000 & $+0.0$ & 5.00 & 6.00" in rows


@pytest.mark.slow
def test_a_quick_run(tmp_path):
    setting = SETTINGS["resnet"]
    assert setting.quick is not None
    found = RADIAL.ask(Bench("resnet", setting, setting.quick(), tmp_path, True))
    assert found.sizes["strategy"] == 6 and (found.growth > 0.9).all()
    assert (found.train_loss < found.start + 0.01).all()
