"""How the lanes of a group lie on the devices."""

import dataclasses

from jax.sharding import Mesh, NamedSharding, PartitionSpec


# The name of the lanes' axis on a mesh.
AXIS = "lanes"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the lanes of a group lie on the devices.

    **Attributes:**

    - `width`: how many lanes a device runs at once, vmapped; 1 is no vmap at all.
    - `per_lane`: whether the solver's hyper-parameters differ from lane to lane.
    - `mesh`: the devices; `None` for the default one.
    """

    width: int
    per_lane: bool
    mesh: Mesh | None = None

    @property
    def lanes(self) -> int:
        """How many lanes a group has."""
        return self.width * (1 if self.mesh is None else self.mesh.size)

    @property
    def over_lanes(self) -> NamedSharding | None:
        """Where arrays with an axis of lanes go."""
        return self.mesh and NamedSharding(self.mesh, PartitionSpec(AXIS))

    @property
    def everywhere(self) -> NamedSharding | None:
        """Where arrays that all lanes share go."""
        return self.mesh and NamedSharding(self.mesh, PartitionSpec())
