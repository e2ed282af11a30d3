"""The Gauss-Newton curvature, and the tag that marks the model's output in a loss."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, PyTree

from .. import _sharding
from ._equation import AbstractSweep
from ._forward import forward_model, SecondOrder
from ._model import AbstractCurvatureMethod, Loss, QuadraticModel
from ._primitive import PrimitiveEquation
from ._products import ProductRule, Products
from ._program import OUTPUT
from ._tape import record


def tag_output(z: PyTree) -> PyTree:
    """Mark `z` as the model's output, for [`curvopt.GaussNewtonCurvature`][].

    ```python
    def loss(params, args):
        x, labels = args
        logits = curvopt.tag_output(jax.vmap(eqx.combine(params, static))(x))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    ```

    Whatever follows in the loss is the loss function. It works inside `jit`, `vmap` and
    `scan`, and costs nothing. Use the returned value: it carries the tag. If several
    outputs are tagged in sequence, the curvature of everything before the last is left out.

    **Arguments:**

    - `z`: a pytree of arrays, any shapes and dtypes.

    **Returns:**

    `z`.

    **Raises:**

    `ValueError` if `z` holds anything but arrays.
    """
    leaves = jtu.tree_leaves(z)
    if not leaves or not all(eqx.is_array_like(x) for x in leaves):
        raise ValueError(
            "z must be the model's output, a pytree of arrays, but it is "
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

    def __check_init__(self) -> None:
        for name in ("output", "loss"):
            if not callable(getattr(self, name)):
                raise ValueError(
                    f"{name} must be a function, but it is {getattr(self, name)!r}."
                )

    def __call__(self, y: PyTree, args: Any) -> Any:
        return self.loss(tag_output(self.output(y, args)), args)


class _CutAtOutput(AbstractSweep):
    """Second-order forward mode that forgets second tangents at the tagged output."""

    inner: SecondOrder
    stack: tuple[int, ...] = eqx.field(static=True, default=(), kw_only=True)

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        outputs, term = self.inner.through(equation, kept, carried)
        # Without this second tangent the model's own curvature never reaches the loss.
        if equation.operation.is_output:
            outputs = [(first, None) for first, _ in outputs]
        return outputs, term

    def instantiate(
        self, carried: PyTree, struct: _sharding.Struct, entering: list[PyTree]
    ) -> PyTree:
        return self.inner.instantiate(carried, struct, entering)


class GaussNewtonCurvature(AbstractCurvatureMethod):
    r"""The generalised Gauss-Newton curvature,
    $\langle J u, \nabla^2 L(z)\, J u \rangle$ with the output $z$ of the model, its
    Jacobian $J$, and the loss function $L$ that follows.

    It leaves out the curvature of the model itself. It is not the curvature of the loss,
    but it is never negative if $L$ is convex in $z$ (cross entropies, squares), and it
    equals the curvature of the loss if the model is linear or the residual is zero. It
    costs one sweep of tangents through the model, and keeps nothing. The value, the
    gradient and the slope are exact. A part of the loss that uses the parameters besides
    the output (weight decay) enters in full.

    Mark the output in the loss with [`curvopt.tag_output`][] or
    [`curvopt.CompositeLoss`][].

    Source: Schraudolph, *Fast curvature matrix-vector products for second-order gradient
    descent* (2002).

    **Arguments:**

    - `products`, `product_dtype`: as for [`curvopt.AdjointCurvature`][]; but `"auto"` is
        `"three"`, of which the tangents through the model need two.

    **Raises:**

    `ValueError` if the loss tags no output; `TypeError` as for
    [`curvopt.ForwardCurvature`][].
    """

    products: Products = eqx.field(static=True, default="auto")
    product_dtype: Any = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        ProductRule(self.products, self.product_dtype)

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        products = "three" if self.products == "auto" else self.products
        how = ProductRule(products, self.product_dtype)
        closed = lambda y: fn(y, args)
        sweep = _CutAtOutput(SecondOrder(how))
        model = forward_model(closed, record(closed, y), sweep, how, cut=True)
        # The report also has the equations inside scans and checkpoints.
        if not any(line.primitive == "tag_output" for line in model.report().equations):
            raise ValueError(
                "GaussNewtonCurvature must know where in the loss the model's output is, "
                "but no tagged value leads from the parameters to the loss. Write "
                "`z = curvopt.tag_output(z)` and use that z, or pass the loss as a "
                "`curvopt.CompositeLoss`."
            )
        return model
