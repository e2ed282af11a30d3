"""The compiled functions, which step and evaluate a group of lanes, and the layout of the
lanes on the devices."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from .._jit import jit_by_static
from .._tree import join_static
from ._lane import step
from ._records import finite_parameters, flat, storable
from ._sharding import AXIS, Sharding


# Many steps in a compiled loop, or a call for each step.
Loop: TypeAlias = Literal["scan", "dispatch"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the lanes of a group are placed on the devices.

    **Attributes:**

    - `width`: how many lanes a device runs at once, vmapped; 1 is no vmap at all.
    - `per_lane`: whether the solver's hyper-parameters differ between lanes.
    - `mesh`: the devices; `None` for the default device.
    - `sharding`: how a lane spans several of them; `None` if it does not.
    - `specs`: how each array of a lane is then split.
    """

    width: int
    per_lane: bool
    mesh: Mesh | None = None
    sharding: Sharding | None = None
    specs: tuple[PartitionSpec, ...] = ()

    @property
    def lanes(self) -> int:
        """How many lanes a group has."""
        return self.width * (1 if self.mesh is None else self.mesh.shape[AXIS])

    @property
    def over_lanes(self) -> NamedSharding | None:
        """The sharding of arrays with an axis of lanes."""
        return self.mesh and NamedSharding(self.mesh, PartitionSpec(AXIS))

    def of_lanes(self, arrays: Sequence[Any]) -> list[NamedSharding | None]:
        """The shardings of the first arrays of lanes, with an axis of lanes each."""
        if self.sharding is None or self.mesh is None:
            return [self.over_lanes] * len(arrays)
        return [
            NamedSharding(self.mesh, PartitionSpec(AXIS, *spec))
            for spec in self.specs[: len(arrays)]
        ]

    def placed(self, lanes: PyTree[Array]) -> PyTree[Array]:
        """Lanes that a traced function returns, split as those that it takes: left free,
        the compiler would split arrays that are on all devices."""
        if self.sharding is None:
            return lanes
        leaves, structure = jtu.tree_flatten(lanes)
        places = self.of_lanes(leaves)
        return jtu.tree_unflatten(structure, self.sharding.constrained(leaves, places))

    @property
    def on_one_device(self) -> "Layout":
        """The same lanes of a device, on a single one."""
        if self.sharding is None:
            return dataclasses.replace(self, mesh=None)
        sharding = self.sharding.on_one_device
        return dataclasses.replace(self, mesh=sharding.with_lanes, sharding=sharding)

    @property
    def split(self) -> str:
        """How arrays are split, whatever the number of devices."""
        if self.sharding is None:
            return ""
        mesh = self.sharding.mesh
        own = mesh.axis_names, mesh.axis_types, self.sharding.batch, self.specs
        return hashlib.sha256(repr(own).encode()).hexdigest()

    @property
    def place(self) -> str:
        """Where the lanes are, in words."""
        count = 1 if self.mesh is None else self.mesh.devices.size
        devices = f"{count} device{'s' if count > 1 else ''}"
        if self.sharding is None:
            return devices
        mesh = self.sharding.mesh
        axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items())
        parts = sum(any(x is not None for x in spec) for spec in self.specs)
        kind = mesh.axis_types[0].name.lower()
        return f"{devices} ({kind} axes: {axes}; {parts} of {len(self.specs)} arrays split)"

    @property
    def everywhere(self) -> NamedSharding | None:
        """The sharding of arrays that all lanes share."""
        return self.mesh and NamedSharding(self.mesh, PartitionSpec())


@dataclasses.dataclass(frozen=True)
class Static:
    """What a program is compiled for, besides the shapes of its arrays."""

    problem: Hashable
    solver: Hashable
    lanes: Hashable
    layout: Layout
    longest: int


def _squeezed(tree: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(lambda x: jnp.squeeze(x, 0), tree)


def _sharded(layout: Layout, fn: Callable, in_specs: tuple, out_specs: Any) -> Callable:
    """`fn` on each device's own lanes, so that no device waits for another."""
    if layout.mesh is None:
        return fn
    # The other axes of the mesh, if there are any, are left to the compiler or the types.
    # `check_vma` would refuse a user's loop from zeros, which do not vary over the devices.
    return jax.shard_map(
        fn,
        mesh=layout.mesh,
        in_specs=in_specs,
        out_specs=out_specs,
        axis_names={AXIS},
        check_vma=False,
    )


_LANES, _ALL = PartitionSpec(AXIS), PartitionSpec()


def _local_step(static: Static) -> Callable:
    """`(problem, solver, lanes, count, data) -> (lanes, row)` on the lanes of one device,
    all pytrees of arrays. Without vmap, lanes have no axis."""

    def one(
        problem: Any, solver: Any, lane: Any, count: Int[Array, ""], data: Any = None
    ) -> Any:
        new, row = step(
            join_static(problem, static.problem),
            join_static(solver, static.solver),
            join_static(lane, static.lanes),
            count,
            data,
        )
        new, sharding = eqx.filter(new, eqx.is_array), static.layout.sharding
        if sharding is not None:
            new = sharding.constrained(new, static.layout.specs)
        return new, flat(*row)

    if static.layout.width == 1:
        return one
    solver = 0 if static.layout.per_lane else None

    def all_lanes(problem: Any, solvers: Any, lanes: Any, count: Any, data: Any = None):
        fn = jax.vmap(one, in_axes=(None, solver, 0, None, 0))
        return fn(problem, solvers, lanes, count, data)

    return all_lanes


def _without_axis(static: Static, solver: Any, lanes: Any) -> tuple[Any, Any]:
    """A single lane and its solver, without their axis of lanes."""
    if static.layout.width > 1:
        return solver, lanes
    return _squeezed(solver) if static.layout.per_lane else solver, _squeezed(lanes)


def _with_axis(static: Static, tree: Any, axis: int = 0) -> Any:
    if static.layout.width > 1:
        return tree
    return jtu.tree_map(lambda x: jnp.expand_dims(x, axis), tree)


def _specs(static: Static, *more: PartitionSpec) -> tuple[PartitionSpec, ...]:
    return (_ALL, _LANES if static.layout.per_lane else _ALL, _LANES, *more)


@functools.partial(jit_by_static, donate_argnums=2)
def scan(
    static: Static,
    problem: Any,
    solver: Any,
    lanes: Any,
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> tuple[Any, dict[str, Array]]:
    """Make steps `first .. last - 1` in one program. The bounds are data, so that chunks of
    any length up to `longest` run the same program. The history has `longest` rows, of
    which the first `last - first` are filled."""

    def local(problem: Any, solver: Any, lanes: Any, first: Any, last: Any) -> Any:
        solver, lanes = _without_axis(static, solver, lanes)
        # Traced once, for the shapes of a row and for the loop.
        stepper = eqx.filter_closure_convert(
            _local_step(static), problem, solver, lanes, first
        )
        _, row = stepper.out_struct  # pyright: ignore[reportFunctionMemberAccess]
        history = jtu.tree_map(
            lambda s: jnp.zeros((static.longest, *s.shape), s.dtype), row
        )

        def body(count: Int[Array, ""], carry: Any) -> Any:
            lanes, history = carry
            lanes, row = stepper(problem, solver, lanes, count)
            history = jtu.tree_map(lambda h, x: h.at[count - first].set(x), history, row)
            return lanes, history

        lanes, history = jax.lax.fori_loop(first, last, body, (lanes, history))
        return _with_axis(static, lanes), _with_axis(static, history, axis=1)

    out_specs = _LANES, PartitionSpec(None, AXIS)
    fn = _sharded(static.layout, local, _specs(static, _ALL, _ALL), out_specs)
    lanes, history = fn(problem, solver, lanes, first, last)
    return static.layout.placed(lanes), history


@functools.partial(jit_by_static, donate_argnums=2)
def dispatch(
    static: Static,
    problem: Any,
    solver: Any,
    lanes: Any,
    count: Int[Array, ""],
    data: Any = None,
) -> tuple[Any, dict[str, Array]]:
    """Make one step, with `data` on the batches of the lanes that came from the host;
    return the lanes and its row of the history."""

    def local(problem: Any, solver: Any, lanes: Any, count: Any, data: Any) -> Any:
        solver, lanes = _without_axis(static, solver, lanes)
        data = data if static.layout.width > 1 else _squeezed(data)
        out = _local_step(static)(problem, solver, lanes, count, data)
        return _with_axis(static, out)

    fn = _sharded(static.layout, local, _specs(static, _ALL, _LANES), (_LANES, _LANES))
    lanes, row = fn(problem, solver, lanes, count, data)
    return static.layout.placed(lanes), row


# Not `jit_by_static`: a layout holds no data that a cached program would keep alive.
@functools.partial(jax.jit, static_argnums=0)
def spread(layout: Layout, data: Any, which: Int[Array, " lanes"]) -> Any:
    """The batch of each lane, from those of the seeds of each device."""

    def local(data: Any, which: Any) -> Any:
        return jtu.tree_map(lambda x: x[which], data)

    return _sharded(layout, local, (_LANES, _LANES), _LANES)(data, which)


# It sees only the parameters of a strategy, so that one program serves all strategies.
@jit_by_static
def evaluate(static: Any, problem: Any, params: Any, model_state: Any) -> Any:
    problem_rest, state_rest, layout = static

    def one(problem: Any, params: Any, model_state: Any) -> Any:
        problem = join_static(problem, problem_rest)
        metrics = problem.evaluate(params, join_static(model_state, state_rest))
        return {k: storable(x) for k, x in metrics.items()} | finite_parameters(params)

    def local(problem: Any, params: Any, model_state: Any) -> Any:
        if layout.width == 1:
            out = one(problem, _squeezed(params), _squeezed(model_state))
            return jtu.tree_map(lambda x: jnp.expand_dims(x, 0), out)
        return jax.vmap(one, in_axes=(None, 0, 0))(problem, params, model_state)

    fn = _sharded(layout, local, (_ALL, _LANES, _LANES), _LANES)
    return fn(problem, params, model_state)
