"""The question of what was held out: its runs, and its conclusion from known data."""

import numpy as np
import pytest
import xarray as xr

from experiments.research._bench import Bench
from experiments.research._families import COSINE, DIRECTIONS, RATES
from experiments.research._settings import SETTINGS
from experiments.research.questions.heldout import _SAID, HELDOUT, TUNED


pytestmark = pytest.mark.host


def _results(ends):
    """Final losses of the strategies, from an initial loss of 10, with two seeds."""
    loss = np.array([[end - 0.1, end + 0.1] for end in ends], np.float32)
    return xr.Dataset(
        {
            "train_loss": (("strategy", "seed"), loss),
            "start": (("strategy", "seed"), np.full_like(loss, 10)),
        },
        {"strategy": list(_SAID)},
        {"metric": "train_loss", "label": "a model"},
    )


def test_the_mean_shortfall():
    first = [1.0, 1.9, 2.8, 10, 1, 1, 1, 1, 1]
    second = [2.0, 2.0, 0.0, 0.0, 5.0, 0.0, 10.0, 4.0, 1.0]
    found = HELDOUT.conclude({"mlp-relu": _results(first), "resnet": _results(second)})
    # 0 and 20 %, 10 % and 20 %, 20 % and 0, ...
    shares = ("10", "15", "10", "50", "25", "0", "50", "20", "5.0")
    lost = [rf"{share}\,\%" for share in shares]
    assert [found.numbers[f"HeldoutLost{name}"] for name in _SAID.values()] == lost
    assert found.numbers["HeldoutSettings"] == "2"
    rows = found.tables["heldout"]
    assert r"a model & 2 & \textbf{1.000} & 1.900" in rows


@pytest.mark.slow
def test_a_quick_run(tmp_path):
    setting = SETTINGS["mlp-relu"]
    assert setting.quick is not None
    found = HELDOUT.ask(Bench("mlp-relu", setting, setting.quick(), tmp_path, True))
    assert set(_SAID) < set(found.strategy.values) and found.sizes["seed"] == 1
    # The tuned rate is that of the lowest loss, on the same seed as the others.
    rates = Bench("mlp-relu", setting, setting.quick(), tmp_path, True).rates
    tried = rates("Adam", DIRECTIONS["Adam"], RATES["Adam"]).sel(strategy=COSINE)
    lowest = float(tried.train_loss.isel(evaluation_step=-1).min())
    assert float(found.train_loss.sel(strategy=TUNED)[0]) == pytest.approx(lowest)
