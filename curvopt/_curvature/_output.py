"""Where in a loss the model ends: what Gauss-Newton needs to know."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import PyTree


OUTPUT = "curvopt.output"


def tag_output(z: PyTree) -> PyTree:
    """Tells [`curvopt.GaussNewtonCurvature`][] that `z` is what the model puts out, and
    what follows in the loss is the loss function.

    ```python
    def loss(params, args):
        x, labels = args
        logits = curvopt.tag_output(jax.vmap(eqx.combine(params, static))(x))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    ```

    It may stand inside `jit`, `vmap` and `scan`, and costs nothing. Go on with what it
    returns: the tag is on that. Where several outputs are tagged, one after the other,
    the curvature of what lies before the last is left out.

    **Arguments:**

    - `z`: a pytree of arrays, any shapes and dtypes.

    **Returns:**

    `z`.

    **Raises:**

    `ValueError` if `z` holds anything but arrays.
    """
    if not all(eqx.is_array_like(x) for x in jtu.tree_leaves(z)):
        raise ValueError(
            "tag_output takes what the model puts out, arrays, but it was given "
            f"{jtu.tree_structure(z)}. Tag the model's output, not the model."
        )
    return jtu.tree_map(lambda x: checkpoint_name(x, OUTPUT), z)


class CompositeLoss(eqx.Module):
    """The loss `loss(output(y, args), args)`, with its output tagged.

    **Arguments:**

    - `output`: `output(y, args) -> z`, the model.
    - `loss`: `loss(z, args) -> scalar`, or `(scalar, aux)`.
    """

    output: Callable[[PyTree, Any], PyTree]
    loss: Callable[[PyTree, Any], Any]

    def __call__(self, y: PyTree, args: Any) -> Any:
        return self.loss(tag_output(self.output(y, args)), args)
