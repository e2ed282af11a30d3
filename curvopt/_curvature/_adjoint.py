import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from .._tree import tree_dot
from ._model import AbstractCurvatureMethod, ClosedLoss, QuadraticModel
from ._tape import backward, record, tangent_sweep


class AdjointCurvature(AbstractCurvatureMethod):
    r"""The curvature by three sweeps: forward, backward, and forward again.

    The third sweep carries the tangents along $u$ and adds up
    $\langle u, H u \rangle = \sum_i \langle \hat z_i, D^2F_i[\dot z, \dot z] \rangle$
    over the equations of the loss, with the adjoints $\hat z$ kept from the gradient.
    Exact. In sweeps it costs half a gradient more and twice a gradient's memory, as
    the abstract of arXiv 2210.14520 has it; its form on jaxprs is this project's.

    **Raises:**

    Where jax itself cannot differentiate the loss in reverse, its own error. A loss that
    contains an iterative solve of Optimistix is not supported yet ("unexpected
    cotangent"): use [`curvopt.HvpCurvature`][] there.
    """

    def model(self, fn: ClosedLoss, y: PyTree[Array]) -> QuadraticModel:
        leaves, treedef = jtu.tree_flatten(y)
        aux_treedef = None

        def flat(*leaves: Array) -> list[Array]:
            nonlocal aux_treedef
            value, aux = fn(jtu.tree_unflatten(treedef, leaves))
            aux_leaves, aux_treedef = jtu.tree_flatten(aux)
            return [value, *aux_leaves]

        tape, (value, *aux), number = record(flat, leaves)
        grad_leaves, adjoints = backward(tape, leaves, value, number)
        grad = jtu.tree_unflatten(treedef, grad_leaves)
        assert aux_treedef is not None  # set by `record`, which traces `flat`
        return QuadraticModel(
            value=jnp.asarray(value),
            grad=grad,
            aux=jtu.tree_unflatten(aux_treedef, aux),
            _slope=lambda u: tree_dot(grad, u),
            _curvature=lambda u: tangent_sweep(tape, adjoints, jtu.tree_leaves(u)),
        )
