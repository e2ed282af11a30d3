"""The question of layers: its runs, and its conclusion from known data."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import curvopt
from experiments.research._bench import Bench
from experiments.research._settings import SETTINGS
from experiments.research.questions.layers import (
    DIAGONAL,
    DiagonalCurvature,
    LAYERS,
    LAYERWISE,
    ONE,
    WHOLE,
)


pytestmark = pytest.mark.host


def test_the_diagonal_leaves_out_the_cross_terms():
    matrix = jnp.array([[3.0, 1.0], [1.0, 2.0]])
    loss = lambda y, _: (y @ matrix @ y / 2, None)
    method = DiagonalCurvature(curvopt.AdjointCurvature())
    model = curvopt.quadratic_model(loss, jnp.ones(2), curvature=method, has_aux=True)
    parts = [jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])]
    np.testing.assert_allclose(model.curvature_matrix(parts), np.diag([3.0, 2.0]))
    np.testing.assert_allclose(model.curvature(jnp.ones(2)), 7)


def results(by_layer, seeds=12):
    spread = 0.01 * np.linspace(-1, 1, seeds)
    ends = np.array([1.0, by_layer, 1.0, 2.0])[:, None] + spread
    return xr.Dataset(
        {
            "train_loss": (("strategy", "seed"), ends.astype(np.float32)),
            "start": (("strategy", "seed"), np.full((4, seeds), 9, np.float32)),
            "diverged": (("strategy", "seed"), np.zeros((4, seeds), bool)),
            "size": (("window", "layer"), np.array([[1, 1], [4, 1]], np.float32)),
            "cross": ("window", np.array([0.2, 0.4], np.float32)),
        },
        {"strategy": [ONE, LAYERS, WHOLE, DIAGONAL]},
        {"metric": "train_loss", "label": "a model", "steps": "10"},
    )


def test_the_conclusion():
    found = LAYERWISE.conclude({"mlp": results(0.5), "lenet": results(1.5)})
    assert found.numbers["LayersOneBetter"] == found.numbers["LayersOneWorse"] == "1"
    assert found.numbers["LayersWholeBetter"] == found.numbers["LayersWholeWorse"] == "1"
    assert found.numbers["LayersDiagonalWorse"] == "2"
    assert found.numbers["LayersCrossMost"] == r"30\,\%"
    assert found.numbers["LayersSpreadMost"] == "4.0"
    assert r"a model & 2 & 1.000 & \textbf{0.5000}" in found.tables["layers"]


@pytest.mark.slow
def test_a_quick_run(tmp_path):
    setting = SETTINGS["mlp"]
    assert setting.quick is not None
    found = LAYERWISE.ask(Bench("mlp", setting, setting.quick(), tmp_path, True))
    assert found.sizes["layer"] == 3 and (found["size"] > 0).all()
    assert ((found.cross >= 0) & (found.cross < 1)).all()
    assert (found.train_loss < found.start).all()
