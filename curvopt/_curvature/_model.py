"""The quadratic model of a loss, its report, and the interface of a curvature method."""

import abc
import collections
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree, Scalar, ScalarLike

from .. import _sharding
from .._checks import check_direction
from .._declared import Declared
from .._tree import promotion, tree_cast, tree_dot, tree_fill
from ._equation import EquationReport
from ._refs import check_refs_of_scans


# `fn(y, args) -> (loss, aux)`, with or without `has_aux`; and the same with the arguments
# closed over.
Loss: TypeAlias = Callable[[PyTree, PyTree], tuple[Scalar, PyTree]]
ClosedLoss: TypeAlias = Callable[[PyTree], tuple[Scalar, PyTree]]
# The loss at a point, and a function that goes on to the gradient there.
LossAndGradient: TypeAlias = Callable[[PyTree], tuple[Scalar, Callable[[], PyTree]]]


@dataclasses.dataclass(frozen=True)
class CurvatureReport:
    """How the curvature of a loss is computed, equation by equation.

    `print` it for a table of the equations and their counts. The rules, cheapest first:

    - `linear`: nothing to add;
    - `bilinear`, `bilinear, two products`, `bilinear, three products`: a product of two
        values that both depend on the parameters;
    - `elementwise`: a chain of elementwise operations, evaluated once more;
    - `generic`: exact, at the cost of a nested `jvp` of this equation;
    - `scan`, `remat`: the sweeps run inside it; the equations of its body follow;
    - `reverse over reverse`: it contains a `jax.custom_vjp`.

    **Attributes:**

    - `equations`: a tuple of [`curvopt.EquationReport`][], in the order of evaluation.
        Empty for a method that differentiates the loss as a whole.
    """

    equations: tuple[EquationReport, ...] = ()

    @staticmethod
    def of(tape: Any, products: Any) -> "CurvatureReport":
        """The report of a method that sweeps over a tape."""
        lines = (line for equation in tape.equations for line in equation.report(products))
        return CurvatureReport(tuple(lines))

    def __str__(self) -> str:
        if not self.equations:
            return "The loss as a whole: no equation depends on a rule."
        counts = collections.Counter(self.equations)
        rows = [("count", "primitive", "rule", "source")]
        rows += [(str(n), *line) for line, n in counts.items()]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [
            "  ".join([*(row[k].ljust(widths[k]) for k in range(3)), row[3]])
            for row in rows
        ]
        return "\n".join([f"{len(self.equations)} equations:", *lines])


class QuadraticModel(eqx.Module):
    r"""The loss near `y` to second order,
    $f(y + t u) \approx f + t \langle g, u \rangle + \tfrac{t^2}{2} \langle u, H u \rangle$.

    [`curvopt.quadratic_model`][] returns it; a curvature method makes it. Like the function
    of `jax.linearize`, it closes over what its sweeps kept: evaluate it along as many
    vectors as you like, inside the same trace. Under `jax.jit`, only what is used is
    computed.

    **Attributes:**

    - `value`: the loss $f(y)$, a scalar.
    - `grad`: the gradient $g$, a pytree like `y`.
    - `aux`: the auxiliary output of the loss at `y` (`None` without `has_aux`).
    """

    value: Scalar
    grad: PyTree[Array]
    aux: PyTree
    _loss: Callable[[PyTree], Scalar]
    _loss_and_gradient: LossAndGradient
    _slope: Callable[[PyTree], Scalar]
    _curvature: Callable[[PyTree], Scalar]
    _curvature_matrix: Callable[[Sequence[PyTree]], Array]
    _product: Callable[[PyTree], PyTree]
    _report: Callable[[], CurvatureReport]

    def __init__(
        self,
        *,
        grad: PyTree[Array],
        curvature: Callable[[PyTree], Scalar],
        value: ScalarLike | None = None,
        aux: PyTree = None,
        loss: Callable[[PyTree], Scalar] | None = None,
        loss_and_gradient: LossAndGradient | None = None,
        slope: Callable[[PyTree], Scalar] | None = None,
        curvature_matrix: Callable[[Sequence[PyTree]], Array] | None = None,
        product: Callable[[PyTree], PyTree] | None = None,
        report: Callable[[], CurvatureReport] | None = None,
    ):
        r"""**Arguments:**

        - `grad`: the gradient.
        - `curvature`: `curvature(u)`, the curvature along a vector, which is already
            checked and in the dtypes of the parameters.
        - `value`: the loss. `None`: not measured (`nan`).
        - `aux`: its auxiliary output.
        - `loss`: `loss(y)`, the loss at another point. `None`: evaluating it is an error.
        - `loss_and_gradient`: `loss_and_gradient(y)`, as the method of that name. `None`:
            by reverse mode of `loss`.
        - `slope`: `slope(u)`. `None`: the inner product with the gradient.
        - `curvature_matrix`: `curvature_matrix(us)`, of such vectors, in which a leaf of
            zeros may be `None`. `None`: by the curvature along sums,
            $2 \langle u, H w \rangle = q(u + w) - q(u) - q(w)$.
        - `product`: `product(u)`, $H u$. `None`: half the gradient of the curvature.
        - `report`: `report()`, for a method that goes through the loss equation by
            equation.
        """
        self.value = jnp.asarray(jnp.nan if value is None else value)
        self.grad = grad
        self.aux = aux
        self._loss = _unknown_loss if loss is None else loss
        self._loss_and_gradient = (
            partial(_by_reverse_mode, self._loss)
            if loss_and_gradient is None
            else loss_and_gradient
        )
        self._slope = partial(tree_dot, grad) if slope is None else slope
        self._curvature = curvature
        self._curvature_matrix = (
            partial(_polarised, curvature, grad)
            if curvature_matrix is None
            else curvature_matrix
        )
        self._product = partial(_half_gradient, curvature) if product is None else product
        self._report = CurvatureReport if report is None else report

    @classmethod
    def of_loss(
        cls, fn: Loss, y: PyTree[Array], args: PyTree, **known: Any
    ) -> "QuadraticModel":
        """The model with value, gradient and loss from jax's own reverse mode, which most
        curvature methods use.

        **Arguments:**

        - `fn`, `y`, `args`: as [`curvopt.AbstractCurvatureMethod`][] receives them.
        - `known`: the `curvature`, and whatever else the method provides: see the class.
        """
        loss = lambda y: fn(y, args)[0]
        # Traced, not run: of such a ref jax's gradient would be wrong, without an error.
        check_refs_of_scans(jax.make_jaxpr(loss)(y))
        (value, aux), grad = jax.value_and_grad(fn, has_aux=True)(y, args)
        return cls(value=value, grad=grad, aux=aux, loss=loss, **known)

    def loss(self, y: PyTree[Array]) -> Scalar:
        """The loss $f$ at another point, on the same data and with the same randomness. One
        evaluation.

        **Arguments:**

        - `y`: parameters, a pytree with the structure, shapes and dtypes of those at which
            the model was made.
        """
        return self._loss(y)

    def loss_and_gradient(
        self, y: PyTree[Array]
    ) -> tuple[Scalar, Callable[[], PyTree[Array]]]:
        """The loss at another point, and a function that returns its gradient there. One
        forward sweep; the function adds one backward sweep.

        **Arguments:**

        - `y`: as for `loss`.
        """
        return self._loss_and_gradient(y)

    def knowing(self, value: Scalar, grad: PyTree[Array]) -> "QuadraticModel":
        """This model with a value and a gradient that were computed before: its own are not
        read any more, and under `jax.jit` cost nothing.

        **Arguments:**

        - `value`, `grad`: those of the loss at `y`, on the same data.
        """
        return QuadraticModel(
            value=value.astype(self.value.dtype),
            grad=tree_cast(grad, self.grad),
            aux=self.aux,
            loss=self._loss,
            loss_and_gradient=self._loss_and_gradient,
            # No `slope`: with the gradient known it is an inner product for every method.
            curvature=self._curvature,
            curvature_matrix=self._curvature_matrix,
            product=self._product,
            report=self._report,
        )

    def slope(self, u: PyTree[Array | None]) -> Scalar:
        r"""The slope $\langle g, u \rangle$ along `u`.

        **Arguments:**

        - `u`: a vector with the structure and shapes of `y`, in any floating dtypes. A leaf
            may be `None`, for zero, as in what [`curvopt.partition`][] returns.

        **Returns:**

        A scalar in float32 or wider; negative if `u` is a descent direction.

        **Raises:**

        `ValueError` if `u` does not match `y`.
        """
        with promotion():
            return self._total(self._slope(self._tangent(u)))

    def curvature(self, u: PyTree[Array | None]) -> Scalar:
        r"""The curvature $\langle u, H u \rangle$ along `u`.

        Arguments, dtype and errors as for `slope`.
        """
        with promotion():
            return self._total(self._curvature(self._tangent(u)))

    def product(self, u: PyTree[Array | None]) -> PyTree[Array]:
        r"""The product $H u$, or $G u$ with [`curvopt.GaussNewtonCurvature`][]: half the
        gradient of $\langle u, H u \rangle$.

        It costs up to three times the curvature.

        **Arguments:**

        - `u`: as for `slope`.

        **Returns:**

        A pytree like `y`.

        **Raises:**

        `ValueError` if `u` does not match `y`.
        """
        with promotion():
            return self._product(self._tangent(u))

    def curvature_matrix(self, us: Sequence[PyTree[Array | None]]) -> Float[Array, "k k"]:
        r"""The curvature matrix of several vectors, $K_{ij} = \langle u_i, H u_j \rangle$.

        [`curvopt.AdjointCurvature`][], [`curvopt.ForwardCurvature`][] and
        [`curvopt.GaussNewtonCurvature`][] compute it by one sweep of tangents along all
        vectors at once, with the adjoints kept from the gradient, and
        [`curvopt.HvpCurvature`][] by a Hessian-vector product for each. The other methods
        evaluate the curvature along $u_i$ and $u_i + u_j$, $k (k + 1) / 2$ times.

        The sweep leaves out what is known to be zero. Along a vector that is `None` outside
        one layer nothing before that layer is computed, the layer costs one product instead
        of three, and each layer behind it one. So the matrix of a vector's layers

        ```python
        model.curvature_matrix(curvopt.partition(u))
        ```

        costs, for $L$ equal layers, $2 L - 1 + L (L - 1) / 2$ products, where a gradient is
        $3 L - 1$ and $L$ vectors without `None` cost about $3 L^2$.

        **Arguments:**

        - `us`: the vectors, at least one; each as for `slope`.

        **Returns:**

        A `(k, k)` matrix in float32 or wider.

        **Raises:**

        `ValueError` if there is no vector, or one does not match `y`.
        """
        if not isinstance(us, (list, tuple)) or (len(us) == 0):
            what = "an empty one" if isinstance(us, (list, tuple)) else type(us).__name__
            raise ValueError(
                f"us must be a list of at least one vector, but it is {what}. For one "
                "vector: `curvature_matrix([u])`."
            )
        with promotion():
            return self._total(self._curvature_matrix([self._part(u) for u in us]))

    def _tangent(self, u: PyTree[Array | None]) -> PyTree[Array]:
        """A checked vector as a tangent of the parameters."""
        with contextlib.suppress(ValueError):  # of another structure: refused below
            u = tree_fill(u, self.grad)
        check_direction(u, self.grad)
        # jax wants tangents of the parameters' types, which say how these are split.
        spread = lambda x, g: _sharding.of_struct(x, _sharding.struct_of(g))
        return jtu.tree_map(spread, tree_cast(u, self.grad), self.grad)

    def _part(self, u: PyTree[Array | None]) -> PyTree[Array | None]:
        """The same, with its `None`s kept."""
        keep = lambda g, x, tangent: None if x is None else tangent
        return jtu.tree_map(keep, self.grad, u, self._tangent(u))

    def _total(self, x: Array) -> Array:
        """Inside `jax.shard_map`, the sum over the devices that share one loss. Where each
        device has a loss and parameters of its own, their numbers are kept apart."""
        own = [_sharding.varying(g) for g in jtu.tree_leaves(self.grad)]
        return _sharding.sum_of_parts(x, _sharding.varying(self.value).intersection(*own))

    def report(self) -> CurvatureReport:
        """Which rule differentiates each equation of the loss, and its line in the user's
        code. A `generic` equation is exact, but costs more than a special rule would."""
        return self._report()


def _unknown_loss(y: PyTree) -> Scalar:
    del y
    raise ValueError(
        "this model knows the loss at one point only, but the line search evaluates it "
        "elsewhere. Make the model with `curvopt.quadratic_model(loss, y)`, or with "
        "`curvopt.QuadraticModel(..., loss=...)`."
    )


def _by_reverse_mode(
    loss: Callable[[PyTree], Scalar], y: PyTree
) -> tuple[Scalar, Callable[[], PyTree]]:
    value, pull_back = jax.vjp(loss, y)
    return value, lambda: pull_back(jnp.ones_like(value))[0]


def _half_gradient(curvature: Callable[[PyTree], Scalar], u: PyTree) -> PyTree:
    return jtu.tree_map(lambda x: x / 2, jax.grad(curvature)(u))


def _polarised(
    curvature: Callable[[PyTree], Scalar],
    grad: PyTree[Array],
    us: Sequence[PyTree[Array | None]],
) -> Array:
    r"""The curvature matrix by $2 \langle u, H w \rangle = q(u + w) - q(u) - q(w)$."""
    us = [tree_fill(u, grad) for u in us]
    own = jnp.stack([curvature(u) for u in us])
    result = jnp.diag(own)
    for i, u in enumerate(us):
        for j, w in enumerate(us[:i]):
            both = curvature(jtu.tree_map(jnp.add, u, w))
            entry = (both - own[i] - own[j]) / 2
            result = result.at[i, j].set(entry).at[j, i].set(entry)
    return result


class AbstractCurvatureMethod(Declared):
    """A curvature method: it makes the quadratic model of a loss.

    Your own method writes only its special part:

    ```python
    class Secant(curvopt.AbstractCurvatureMethod):
        h: float = 1e-3

        def model(self, fn, y, args):
            gradient = jax.grad(lambda y: fn(y, args)[0])

            def curvature(u):
                slope_at = lambda t: curvopt.tree_dot(
                    gradient(jax.tree.map(lambda y, u: y + t * u, y, u)), u
                )
                return (slope_at(self.h) - slope_at(-self.h)) / (2 * self.h)

            return curvopt.QuadraticModel.of_loss(fn, y, args, curvature=curvature)
    ```
    """

    @abc.abstractmethod
    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        """Expand a loss at `y`.

        **Arguments:**

        - `fn`: the loss, `fn(y, args) -> (scalar, aux)`; it checks what the user's loss
            returns.
        - `y`: the parameters, a pytree of floating-point arrays; already checked.
        - `args`: the other arguments of the loss.

        **Returns:**

        A [`curvopt.QuadraticModel`][].
        """
