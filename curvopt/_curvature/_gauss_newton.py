from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, PyTree, Scalar

from .. import _compat
from ._equation import AbstractSweep
from ._forward import forward_model
from ._model import AbstractCurvatureMethod, Loss, QuadraticModel
from ._output import OUTPUT
from ._primitive import PrimitiveEquation
from ._products import ProductRule, Products
from ._sweeps import SecondOrder
from ._tape import record


class _CutAtOutput(AbstractSweep):
    """Second-order forward mode that forgets second tangents at the tagged output."""

    leading: ClassVar[int] = 0

    inner: SecondOrder

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        outputs, term = self.inner.through(equation, kept, carried)
        if equation.operation.is_named(OUTPUT):
            outputs = [(first, None) for first, _ in outputs]
        return outputs, term

    def instantiate(self, carried: PyTree, struct: _compat.Struct) -> PyTree:
        return self.inner.instantiate(carried, struct)

    def zero(self) -> Scalar:
        return self.inner.zero()


class GaussNewtonCurvature(AbstractCurvatureMethod):
    r"""The generalised Gauss-Newton curvature,
    $\langle J u, \nabla^2 L(z)\, J u \rangle$ with the output $z$ of the model, its
    Jacobian $J$, and the loss function $L$ that follows.

    It leaves out the curvature of the model itself. Not the curvature of the loss, but
    never negative where $L$ is convex in $z$ (cross entropies, squares), and the same
    where the model is linear or the loss has a zero residual. One sweep of tangents
    through the model; nothing is kept. The value, the gradient and the slope are exact.
    Where the loss uses the parameters beside the output (weight decay), that part enters
    in full.

    The loss says where its output is: [`curvopt.tag_output`][] or
    [`curvopt.CompositeLoss`][].

    Source: Schraudolph, *Fast curvature matrix-vector products for second-order gradient
    descent* (2002).

    **Arguments:**

    - `products`, `product_dtype`: as for [`curvopt.AdjointCurvature`][].

    **Raises:**

    `ValueError` if the loss tags no output; `TypeError` as for
    [`curvopt.ForwardCurvature`][].
    """

    products: Products = eqx.field(static=True, default="auto")
    product_dtype: Any = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        ProductRule(self.products, self.product_dtype)

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        how = ProductRule(self.products, self.product_dtype)
        closed = lambda y: fn(y, args)
        sweep = _CutAtOutput(SecondOrder(how))
        model = forward_model(closed, record(closed, y), sweep, how)
        if not any(line.primitive == "tag_output" for line in model.report().equations):
            raise ValueError(
                "GaussNewtonCurvature must know where in the loss the model's output is, "
                "but no tagged value leads from the parameters to the loss. Write "
                "`z = curvopt.tag_output(z)`, and go on with that z; or give the loss as a "
                "`curvopt.CompositeLoss`."
            )
        return model
