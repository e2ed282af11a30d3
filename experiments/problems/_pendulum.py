import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

import curvopt


# The angle, the velocity and the control of each node.
_Nodes = Float[Array, "node 3"]


class Pendulum(curvopt.AbstractProblem):
    r"""The swing-up of a pendulum whose motor is too weak to lift it at once: optimal
    control by direct transcription. Deterministic.

    In units in which gravity, length and mass are 1, with the angle $\theta$ from hanging,

    $$\theta'' = -\sin\theta + L \tanh(u / L).$$

    The control $u$ is free; the torque saturates smoothly at the limit $L$. With $L < 1$
    the pendulum cannot be held where it is level, and has to gather momentum. The unknowns
    are $x_k = (\theta_k, \theta'_k)$ and $u_k$ at the nodes $0, \dots, N$, a distance $h$
    apart: an array of shape `(N + 1, 3)`. With $x' = f(x, u)$ and the trapezoidal rule's
    defects

    $$d_k = x_{k+1} - x_k - \tfrac h2 \bigl(f(x_k, u_k) + f(x_{k+1}, u_{k+1})\bigr)$$

    the loss is the effort $\tfrac12 \int u^2$ by the same rule, and penalties:

    $$\frac h4 \sum_{k<N} (u_k^2 + u_{k+1}^2) + \frac\rho2 \Bigl(\frac1h \sum_{k<N} |d_k|^2
    + |x_0 - (0, 0)|^2 + |x_N - (\pi, 0)|^2\Bigr).$$

    Trapezoidal collocation, from a straight line between the ends, is in Kelly, *An
    introduction to trajectory optimization*, SIAM Review 59(4), 2017 (that the line has
    constant velocity is recalled). There the defects are constraints of a nonlinear
    program; the penalty, and this pendulum, are this project's.

    It starts at the straight line from hanging to upright at constant velocity, without
    control, plus $N(0, \mathrm{perturbation}^2)$ everywhere, by which seeds differ.

    Its metrics are `train_loss`; `effort`; `largest_defect`, the largest $|d_k|$ of one
    component; and `distance_to_upright`, $|x_N - (\pi, 0)|$.

    **Arguments:**

    - `intervals`: $N$.
    - `horizon`: how long it may take, $N h$; small swings have the period $2\pi$.
    - `limit`: $L$.
    - `penalty`: $\rho$. The defects that it leaves add up: with 1e4 and the other defaults
        the controls that are found lift the pendulum, with 1e3 they stop short of it.
    - `perturbation`: the deviation of the starting guess; 0 makes all seeds alike.

    **Raises:**

    `ValueError` if `intervals` is not a count, `perturbation` is negative, or another
    number is not positive.
    """

    intervals: int = curvopt.count(50)
    horizon: curvopt.Number = curvopt.hyperparameter(10.0, above=0)
    limit: curvopt.Number = curvopt.hyperparameter(0.5, above=0)
    penalty: curvopt.Number = curvopt.hyperparameter(1e4, above=0)
    perturbation: curvopt.Number = curvopt.hyperparameter(0.1, at_least=0)

    @property
    def _spacing(self) -> Scalar:
        return self.horizon / self.intervals

    def init(self, key: PRNGKeyArray) -> tuple[_Nodes, None]:
        angle = jnp.linspace(0.0, jnp.pi, self.intervals + 1)
        velocity = jnp.full_like(angle, jnp.pi / self.horizon)
        guess = jnp.stack([angle, velocity, jnp.zeros_like(angle)], axis=1)
        return guess + self.perturbation * jr.normal(key, guess.shape, guess.dtype), None

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> None:
        return None

    def _derivative(self, node: Float[Array, " 3"]) -> Float[Array, " 2"]:
        angle, velocity, control = node
        torque = self.limit * jnp.tanh(control / self.limit)
        return jnp.stack([velocity, torque - jnp.sin(angle)])

    def _effort(self, pair: Float[Array, "2 3"]) -> Scalar:
        return self._spacing / 4 * jnp.sum(pair[:, 2] ** 2)

    def _defect(self, pair: Float[Array, "2 3"]) -> Float[Array, " 2"]:
        rates = jax.vmap(self._derivative)(pair)
        return pair[1, :2] - pair[0, :2] - self._spacing / 2 * rates.sum(axis=0)

    def _share(self, pair: Float[Array, "2 3"], ends: Float[Array, " 2"]) -> Scalar:
        """What an interval adds to the loss. `ends` is 1 where its left node is the
        first, where its right node is the last, and else 0."""
        missed = pair[:, :2] - _boundary()
        squares = jnp.sum(self._defect(pair) ** 2) / self._spacing
        squares += jnp.sum(ends * jnp.sum(missed**2, axis=1))
        return self._effort(pair) + self.penalty / 2 * squares

    def _ends(self) -> Float[Array, "interval 2"]:
        zeros = jnp.zeros((self.intervals, 2))
        return zeros.at[0, 0].set(1).at[-1, 1].set(1)

    def _total(self, params: _Nodes) -> Scalar:
        return jax.vmap(self._share)(_pairs(params), self._ends()).sum()

    def loss(
        self, params: _Nodes, args: tuple[None, PyTree, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[None, curvopt.Metrics]]:
        del args
        return self._total(params), (None, {})

    def hessian_blocks(
        self, params: _Nodes
    ) -> tuple[Float[Array, "node 3 3"], Float[Array, "interval 3 3"]]:
        r"""The Hessian of the loss, all of it that is not zero.

        The loss is a sum over intervals, each of which sees two nodes. So the Hessian is
        block-tridiagonal, and each interval adds to it a matrix of 6 by 6, its curvatures
        $\langle e_i, H e_j \rangle$ along the six unit vectors of its own unknowns:
        [`curvopt.QuadraticModel.curvature_matrix`][], under `vmap` over the intervals. Six
        sweeps of the loss give all, however many nodes there are. On the loss as a whole
        curvatures along sums of unit vectors could not do it: what they add up cannot be
        told apart.

        **Returns:**

        The blocks on the diagonal, $\partial^2 f / \partial y_k \partial y_k$, and those
        above it, $\partial^2 f / \partial y_k \partial y_{k+1}$.
        """
        units = list(jnp.eye(6, dtype=params.dtype).reshape(6, 2, 3))

        def share(pair: Float[Array, "2 3"], ends: Float[Array, " 2"]) -> Array:
            model = curvopt.quadratic_model(self._share, pair, ends)
            return model.curvature_matrix(units)

        added = jax.vmap(share)(_pairs(params), self._ends())
        diagonal = jnp.zeros((self.intervals + 1, 3, 3), added.dtype)
        diagonal = diagonal.at[:-1].add(added[:, :3, :3]).at[1:].add(added[:, 3:, 3:])
        return diagonal, added[:, :3, 3:]

    def evaluate(self, params: _Nodes, model_state: PyTree) -> curvopt.Metrics:
        del model_state
        pairs = _pairs(params)
        return {
            "train_loss": self._total(params),
            "effort": jax.vmap(self._effort)(pairs).sum(),
            "largest_defect": jnp.abs(jax.vmap(self._defect)(pairs)).max(),
            "distance_to_upright": jnp.linalg.norm(params[-1, :2] - _boundary()[1]),
        }

    @property
    def steps_per_epoch(self) -> int:
        """1: every step sees all there is."""
        return 1


def _pairs(params: _Nodes) -> Float[Array, "interval 2 3"]:
    return jnp.stack([params[:-1], params[1:]], axis=1)


def _boundary() -> Float[Array, "2 2"]:
    """Angle and velocity at the beginning, hanging, and at the end, upright."""
    return jnp.array([[0.0, 0.0], [jnp.pi, 0.0]])
