from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

import curvopt


def _as_tuple(directions: Any) -> tuple[Any, ...]:
    if not isinstance(directions, (tuple, list)):
        raise ValueError(
            f"directions must be a tuple of directions, but it is {directions!r}. For one: "
            "`(direction,)`."
        )
    return tuple(directions)


class HyperplaneSearch(curvopt.AbstractDirection):
    r"""The best combination of several directions, $u = \sum_i c_i u_i$, by Newton's method
    in the plane that they span: $c = -K^{-1} F$ with $F_i = \langle g, u_i \rangle$ and
    $K_{ij} = \langle u_i, H u_j \rangle$.

    It chooses learning rate and momentum together: with the gradient and the last step,
    `HyperplaneSearch((SGD(), LastStep()))`, the coefficients are the learning rate and the
    momentum of the heavy ball, and on a quadratic the steps are those of conjugate
    gradients. $K$ random directions, `HyperplaneSearch((ForwardGradient(),) * K)`, are
    FoMoH-KD, and Newton's method where $K$ is the dimension. The direction includes the
    step size: use it with `LearningRate(1.0)`, or `Backtracking(LearningRate(1.0))`.

    The directions are normalised, and the system is solved in the eigenvectors of $K$.
    Eigenvalues below `cutoff` times the largest are left out; they come from directions
    that coincide, as at the first step. A negative eigenvalue enters by its absolute value,
    so that $u$ never ascends. Where no eigenvalue is left, $c = -F$.

    It costs one slope for each direction and one curvature matrix (see
    `model.curvature_matrix`). Its memory, if it has any, *is* the direction.

    **Arguments:**

    - `directions`: at least one [`curvopt.AbstractDirection`][].
    - `cutoff`: in $[0, 1)$; `None` (the default) is the square root of the machine epsilon
        of the scalars' dtype.

    Source: *Second-Order Forward-Mode Automatic Differentiation for Optimization*, arXiv
    2408.10419 (read in its code), for the system; the absolute values are those of Dauphin
    et al. 2014; the cutoff is this project's.
    """

    directions: tuple[curvopt.AbstractDirection, ...] = eqx.field(converter=_as_tuple)
    cutoff: curvopt.OptionalNumber = curvopt.hyperparameter(None, at_least=0, below=1)

    def __check_init__(self) -> None:
        if not self.directions:
            raise ValueError(
                "directions must be at least one, but there is none. Pass `(SGD(),)`, say."
            )

    @property
    def reads_gradient(self) -> bool:
        return any(direction.reads_gradient for direction in self.directions)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> tuple[Any, ...]:
        keys = jr.split(key, len(self.directions))
        return tuple(d.init(y, key=k) for d, k in zip(self.directions, keys))

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: tuple[Any, ...]
    ) -> tuple[curvopt.Descent, tuple[Any, ...]]:
        us, states = [], []
        for direction, own in zip(self.directions, state, strict=True):
            descent, own = direction.step(model, y, own)
            # Of length one, so that the cutoff compares curvatures, not lengths.
            us.append(_normalised(descent.u))
            states.append(own)
        slopes = jnp.stack([model.slope(u) for u in us])
        c = self._coefficients(model.curvature_matrix(us), slopes)
        combine = lambda *leaves: sum(
            ((c[k] * leaf).astype(leaf.dtype) for k, leaf in enumerate(leaves)),
            start=jnp.zeros((), leaves[0].dtype),
        )
        return curvopt.Descent(jax.tree.map(combine, *us)), tuple(states)

    def _coefficients(
        self, matrix: Float[Array, "k k"], slopes: Float[Array, " k"]
    ) -> Float[Array, " k"]:
        eps = jnp.finfo(matrix.dtype).eps
        cutoff = jnp.sqrt(eps) if self.cutoff is None else self.cutoff
        # Symmetric but for rounding, and `eigh` reads only one triangle.
        values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
        sizes = jnp.abs(values)
        kept = (sizes > cutoff * jnp.max(sizes)) & (sizes > 0)
        rotated = vectors.T @ slopes
        newton = vectors @ jnp.where(kept, rotated / jnp.where(kept, sizes, 1), 0)
        return -jnp.where(jnp.any(kept), newton, slopes)


def _normalised(u: PyTree[Array]) -> PyTree[Array]:
    norm = curvopt.tree_norm(u)
    scale = 1 / jnp.where(norm > 0, norm, 1)
    return jax.tree.map(lambda x: (scale * x).astype(x.dtype), u)
