"""How one model spans several devices: its arrays by rule, the batch, and the lanes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PRNGKeyArray, PyTree, Scalar

from .._around import AbstractAround
from .._checks import check_instance
from .._problem import AbstractProblem, Metrics


# The mesh axis of the lanes.
AXIS = "lanes"

# From the path and the shape of a parameter to how it is split.
Rule: TypeAlias = Callable[[str, tuple[int, ...]], PartitionSpec]


@dataclasses.dataclass(frozen=True)
class FullySharded:
    """The rule that splits each parameter along its longest axis that the devices divide
    (fully sharded data parallelism, ZeRO). What they do not divide is on all of them.

    **Arguments:**

    - `mesh`: the mesh.
    - `axis`: the name of its axis whose devices share the parameters.
    - `at_least`: parameters with fewer numbers are on all devices.

    Source: Rajbhandari, Rasley, Ruwase & He 2020; Zhao et al. 2023.
    """

    mesh: Mesh
    axis: str = "data"
    at_least: int = 1024

    def __post_init__(self) -> None:
        check_instance("mesh", self.mesh, Mesh)
        _check_names("axis", PartitionSpec(self.axis), self.mesh)

    def __call__(self, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        del path
        n = self.mesh.shape[self.axis]
        # -k: of axes of the same length, `max` takes the first.
        fitting = [(size, -k) for k, size in enumerate(shape) if size % n == 0]
        if not fitting or np.prod(shape) < self.at_least:
            return PartitionSpec()
        _, k = max(fitting)
        return PartitionSpec(*[None] * -k, self.axis)


@dataclasses.dataclass(frozen=True)
class Sharding:
    """How one model spans several devices, as a part of [`curvopt.Execution`][].

    ```python
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharding = curvopt.Sharding(mesh, params=curvopt.FullySharded(mesh))
    execution = curvopt.Execution(sharding=sharding)
    result = curvopt.train(problem, solver, key, steps=1000, execution=execution)
    ```

    The default, every parameter on every device, is data parallelism: each device computes
    its part of the batch. An array of a solver's state, or of the model's, that belongs to
    a parameter is split as the parameter is: those whose path ends in the parameter's, and
    whose last axes are its axes. All other arrays are on all devices.

    A mesh axis called `lanes` takes the lanes of a study, as many side by side as it is
    long; the other axes hold the arrays of each. Numbers are those of one device, to
    rounding.

    With automatic axes the compiler moves what it needs between devices. With explicit
    axes (`jax.make_mesh` makes these by default) the types of parameters and batch say how
    they are split, and the problem's functions say where they are gathered:
    `jax.sharding.reshard`.

    **Arguments:**

    - `mesh`: devices with named axes: all automatic, or all explicit. In `train` and
        studies they are those of this process; in a loop of your own, of any processes.
    - `params`: a rule, from the path (`".layers[0].weight"`) and the shape of a parameter
        to a `jax.sharding.PartitionSpec`: [`curvopt.FullySharded`][], for example. `None`
        (the default) has all of them on all devices.
    - `batch`: how the arrays of a batch are split; the axis of the examples comes first.

    **Raises:**

    `ValueError` if the axes are of several types, or not on the mesh; when it is used, if
    the rule returns anything but a `PartitionSpec` that divides the parameter.
    """

    mesh: Mesh
    params: Rule | None = None
    batch: PartitionSpec = PartitionSpec("data")

    def __post_init__(self) -> None:
        check_instance("mesh", self.mesh, Mesh)
        if len(set(self.mesh.axis_types)) != 1 or self._type is AxisType.Manual:
            raise ValueError(
                "mesh must have axes that are all automatic or all explicit, but they are "
                f"{self.mesh.axis_types}: `jax.make_mesh(..., axis_types=...)`."
            )
        if self.params is not None and not callable(self.params):
            raise ValueError(
                "params must be a rule, from the path and the shape of a parameter to a "
                f"jax.sharding.PartitionSpec, but it is {self.params!r}."
            )
        check_instance("batch", self.batch, PartitionSpec)
        _check_names("batch", self.batch, self.mesh)

    @property
    def _type(self) -> AxisType:
        return self.mesh.axis_types[0]

    @property
    def with_lanes(self) -> Mesh:
        """The mesh with an axis of lanes."""
        mesh = self.mesh
        if AXIS in mesh.axis_names:
            return mesh
        names = (AXIS, *mesh.axis_names)
        return Mesh(mesh.devices[None], names, axis_types=(self._type,) * len(names))

    @property
    def lanes(self) -> int:
        """How many lanes there are side by side."""
        return self.with_lanes.shape[AXIS]

    @property
    def on_one_device(self) -> "Sharding":
        """The same on a mesh of a single device."""
        names, ones = self.mesh.axis_names, (1,) * self.mesh.devices.ndim
        first = self.mesh.devices.ravel()[:1].reshape(ones)
        mesh = Mesh(first, names, axis_types=self.mesh.axis_types)
        return dataclasses.replace(self, mesh=mesh)

    def put(self, tree: PyTree, params: PyTree) -> PyTree:
        """Put arrays on the devices, for a loop of your own.

        ```python
        state = solver.init_strategy(params, key)
        params, state = sharding.put((params, state), params)
        ```

        **Arguments:**

        - `tree`: any pytree; what belongs to a parameter is split as that is.
        - `params`: the parameters.

        **Returns:**

        `tree`, on the devices. A `jax.ShapeDtypeStruct` gets its sharding instead: enough
        to compile a step, and to ask XLA for its memory.
        """
        is_struct = lambda x: isinstance(x, jax.ShapeDtypeStruct)
        dynamic, rest = eqx.partition(tree, lambda x: eqx.is_array(x) or is_struct(x))
        leaves, structure = jtu.tree_flatten(dynamic)
        placed = [
            jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
            if is_struct(x)
            else jax.device_put(x, sharding)
            for x, sharding in zip(leaves, self.shardings(params, tree))
        ]
        return eqx.combine(jtu.tree_unflatten(structure, placed), rest)

    def shardings(self, params: PyTree, tree: PyTree) -> list[NamedSharding]:
        """The sharding of each array of a pytree, in order."""
        return [NamedSharding(self.mesh, spec) for spec in self.specs(params, tree)]

    def specs(self, params: PyTree, tree: PyTree) -> tuple[PartitionSpec, ...]:
        """How each array of a pytree is split, in order."""
        rule = self.params or (lambda path, shape: PartitionSpec())
        known = [
            (path, x.shape, self._checked(jtu.keystr(path), x.shape, rule))
            for path, x in jtu.tree_leaves_with_path(params)
        ]

        def spec(path: Sequence[Any], shape: tuple[int, ...]) -> PartitionSpec:
            for own, own_shape, found in known:
                more = len(shape) - len(own_shape)
                ends = tuple(path[len(path) - len(own) :]) == tuple(own)
                if ends and more >= 0 and shape[more:] == own_shape:
                    return PartitionSpec(*[None] * more, *found)
            return PartitionSpec()

        arrays = jtu.tree_leaves_with_path(eqx.filter(tree, lambda x: hasattr(x, "dtype")))
        return tuple(spec(path, x.shape) for path, x in arrays)

    def _checked(self, path: str, shape: tuple[int, ...], rule: Rule) -> PartitionSpec:
        found = rule(path, shape)
        if not isinstance(found, PartitionSpec):
            raise ValueError(
                f"params must return a jax.sharding.PartitionSpec, but for {path} of shape "
                f"{shape} it returned {found!r}."
            )
        _check_names("params", found, self.mesh)
        try:
            NamedSharding(self.mesh, found).shard_shape(shape)
        except ValueError as error:
            raise ValueError(
                f"params must divide each parameter, but {path} has the shape {shape} and "
                f"the rule returned {found}: {error}"
            ) from error
        return found

    def constrained(self, tree: PyTree, specs: Sequence[Any]) -> PyTree:
        """Arrays within a traced function, split as the specs say."""
        explicit = self._type is AxisType.Explicit
        place = jax.sharding.reshard if explicit else jax.lax.with_sharding_constraint

        def placed(x: Array, spec: Any) -> Array:
            # Random keys are on all devices, and stay there.
            is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            return x if is_key else place(x, spec)

        leaves, structure = jtu.tree_flatten(tree)
        return jtu.tree_unflatten(structure, list(map(placed, leaves, specs)))

    def with_split_data(self, problem: AbstractProblem) -> AbstractProblem:
        """A problem within a traced function, whose arrays are split as a batch is, where
        they can be: with automatic axes this changes no number. Explicit ones change types,
        which is left to the problem."""
        if self._type is AxisType.Explicit:
            return problem
        arrays, rest = eqx.partition(problem, eqx.is_array)

        def spec(x: Array) -> PartitionSpec:
            own = PartitionSpec(*self.batch[: x.ndim])
            return own if _divides(self.mesh, own, x.shape) else PartitionSpec()

        specs = list(map(spec, jtu.tree_leaves(arrays)))
        return eqx.combine(self.constrained(arrays, specs), rest)

    def spread(self, problem: AbstractProblem) -> AbstractProblem:
        """A problem whose batches are split."""
        return _Spread(problem, self)


class _Spread(AbstractAround):
    """A problem whose loss splits each batch over the devices."""

    problem: AbstractProblem
    sharding: Sharding = eqx.field(static=True)

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], PyTree]:
        return self.problem.init(key)

    def loss(
        self, params: PyTree[Array], args: tuple[PyTree, PyTree, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[PyTree, Metrics]]:
        data, model_state, key = args
        specs = [
            PartitionSpec(*self.sharding.batch[: jnp.ndim(x)])
            for x in jtu.tree_leaves(data)
        ]
        data = self.sharding.constrained(data, specs)
        return self.problem.loss(params, (data, model_state, key))

    def evaluate(self, params: PyTree[Array], model_state: PyTree) -> Metrics:
        return self.sharding.with_split_data(self.problem).evaluate(params, model_state)


def _divides(mesh: Mesh, spec: PartitionSpec, shape: tuple[int, ...]) -> bool:
    """Whether the devices divide the axes that they split."""
    try:
        NamedSharding(mesh, spec).shard_shape(shape)
    except ValueError:
        return False
    return True


def _check_names(name: str, spec: PartitionSpec, mesh: Mesh) -> None:
    """Refuse a spec with axes that the mesh does not have for a model."""
    free = [axis for axis in mesh.axis_names if axis != AXIS]
    for part in spec:
        for axis in part if isinstance(part, tuple) else (part,):
            if axis is not None and axis not in free:
                raise ValueError(
                    f"{name} must name axes of the mesh, which for a model has "
                    f"{', '.join(map(repr, free)) or 'none'}, but it names {axis!r}."
                )
