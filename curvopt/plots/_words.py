"""Labels of variables on axes."""

import xarray as xr

from ._labels import Maths


LABELS = {
    "step": "steps",
    "evaluation_step": "steps",
    "gradient_equivalents": "gradient-equivalents",
    "seconds": "seconds a run",
    "loss": "mini-batch loss",
    "step_size": Maths(r"step size $\tau$"),
    "effective_rate": Maths(r"$\ell = \tau\,|\varphi''|\,/\,2|\varphi'|$"),
    "slope": Maths(r"slope $|\varphi'|$"),
    "curvature": Maths(r"curvature $|\varphi''|$"),
    "gradient_norm": "gradient norm",
    "train_loss": "training loss",
    "test_accuracy": "test accuracy",
    "value": "learning rate",  # the dimension of a grid that has no name
}


def words(data: xr.Dataset, name: str) -> str:
    """A variable's `long_name`, else the project's label for it, else its name in words."""
    own = data[name].attrs.get("long_name") if name in data.variables else None
    return str(own) if own else LABELS.get(name, name.replace("_", " "))
