import equinox as eqx
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ._host_data import HostData
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
    def host_data(self) -> HostData | None:
        """That of the problem."""
        return self.problem.host_data

    @property
    def steps_per_epoch(self) -> int:
        """That of the problem."""
        return self.problem.steps_per_epoch
