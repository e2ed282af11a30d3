import equinox as eqx
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ._problem import AbstractProblem


class AbstractAround(AbstractProblem):
    """A problem around another one, on that one's data.

    **Attributes:**

    - `problem`: the other one.
    """

    problem: eqx.AbstractVar[AbstractProblem]

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> PyTree[Array]:
        return self.problem.batch(key, count)

    @property
    def steps_per_epoch(self) -> int:
        """That of the problem."""
        return self.problem.steps_per_epoch
