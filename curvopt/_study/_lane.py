"""A lane: the state of a run. How it starts, one step of it, and many of them stacked."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from .._checks import check_model_state, check_parameters
from .._jit import filter_jit
from .._keys import seed_of, start_keys
from .._problem import AbstractProblem, Metrics
from .._solver import LineSearchMinimiser, StepRecord, StrategyState
from .._tree import join_static, pack_keys, split_static, unpack_keys
from ._sharding import Sharding
from ._store import StudyError


class Lane(eqx.Module):
    """The state that a run carries from step to step. Lanes are vmapped, so the step count,
    which they share, is not in here."""

    params: PyTree[Array]
    model_state: PyTree
    strategy: StrategyState
    batch_key: PRNGKeyArray
    loss_key: PRNGKeyArray

    @property
    def answer(self) -> PyTree[Array]:
        """The parameters that are evaluated: the last ones, or their average."""
        return self.strategy.answer(self.params)


class Origin(eqx.Module):
    """What determines the start of a run: a random key and, if they are given instead of
    drawn, the parameters and the model's state."""

    key: PRNGKeyArray
    params: PyTree[Array] | None = None
    model_state: PyTree = None


class Start(eqx.Module):
    """What a seed gives every strategy: common random numbers."""

    params: PyTree[Array]
    model_state: PyTree
    batch_key: PRNGKeyArray
    loss_key: PRNGKeyArray
    direction_key: PRNGKeyArray


def seed_key(seed: int) -> PRNGKeyArray:
    """The random key of a seed. It is always threefry: `rbg` draws other numbers under
    vmap, so that a seed would depend on how many lanes run at once."""
    return jr.key(np.uint32(seed), impl="threefry2x32")


def draw(problem: AbstractProblem, origin: Origin) -> Start:
    """Draw the initial parameters, batches and randomness that all strategies share."""
    keys = start_keys(origin.key)
    params, model_state = problem.init(keys.init)
    params = params if origin.params is None else origin.params
    model_state = model_state if origin.model_state is None else origin.model_state
    check_parameters(params)
    check_model_state(model_state)
    # Arrays that `init` made from Python numbers may be weakly typed, and would change type
    # within the loop.
    strong = lambda x: jax.lax.convert_element_type(x, x.dtype)
    params = jtu.tree_map(strong, params)
    return Start(params, model_state, keys.batch, keys.loss, keys.direction)


def begin(solver: LineSearchMinimiser, start: Start) -> Lane:
    """The lane of a strategy at its start."""
    strategy = solver.init_strategy(start.params, start.direction_key)
    return Lane(start.params, start.model_state, strategy, start.batch_key, start.loss_key)


# Compiled once for all strategies and seeds, and never vmapped: a seed has the same start,
# bit for bit, however its lane is run.
_draw = filter_jit(draw)
_begin = filter_jit(begin)


def _splitting(fn: Callable, sharding: Sharding, *args: Any) -> Callable:
    """`fn`, compiled for such arguments, with what it returns split over devices: no device
    ever holds a whole model."""
    struct = eqx.filter_eval_shape(fn, *args)
    shapes, rest = eqx.partition(struct, lambda x: hasattr(x, "dtype"))
    _, static = split_static(args)

    def arrays(dynamic: PyTree[Array]) -> list[Array]:
        return jtu.tree_leaves(eqx.filter(fn(*join_static(dynamic, static)), eqx.is_array))

    compiled = jax.jit(arrays, out_shardings=sharding.shardings(struct.params, struct))

    def split(*args: Any) -> Any:
        leaves = compiled(split_static(args)[0])
        return eqx.combine(jtu.tree_unflatten(jtu.tree_structure(shapes), leaves), rest)

    return split


def step(
    problem: AbstractProblem,
    solver: LineSearchMinimiser,
    lane: Lane,
    count: Int[Array, ""],
    data: PyTree[Array] | None = None,
) -> tuple[Lane, tuple[StepRecord, Metrics]]:
    """Make one step of one lane, on a batch that came from the host or on the problem's
    own; return the lane and its record."""
    # Data and randomness go by the batch: all steps on one batch see the same loss.
    batch = count // solver.line_search.steps_per_batch
    if data is None:
        # A clone, for jax's check of key reuse: every step passes this key, and its count.
        data = problem.batch(jr.clone(lane.batch_key), batch)
    args = data, lane.model_state, jr.fold_in(lane.loss_key, batch)
    params, strategy, record, (model_state, metrics) = solver.update(
        problem.loss, lane.params, args, count, lane.strategy
    )
    new = Lane(params, model_state, strategy, lane.batch_key, lane.loss_key)
    return new, (record, metrics)


def to_host(tree: PyTree) -> list[np.ndarray]:
    """The arrays of a pytree on the host, with random keys as plain numbers."""
    arrays = jtu.tree_leaves(eqx.filter(pack_keys(tree), eqx.is_array))
    return [np.asarray(x) for x in jax.device_get(arrays)]


def to_device(leaves: Sequence[np.ndarray], like: PyTree, sharding: Any = None) -> PyTree:
    """The inverse of `to_host`.

    **Arguments:**

    - `leaves`: the arrays, possibly with additional leading axes.
    - `like`: a pytree with its structure, from which everything but arrays is taken.
    - `sharding`: where to put the arrays, or each of them; on the default device if it is
        `None`.
    """
    dynamic, static = eqx.partition(pack_keys(like), eqx.is_array)
    arrays = jax.device_put(list(leaves), sharding)
    dynamic = jtu.tree_unflatten(jtu.tree_structure(dynamic), arrays)
    return unpack_keys(eqx.combine(dynamic, static))


class Lanes:
    """The lanes of one strategy at their start.

    **Arguments:**

    - `problem`: the problem.
    - `solver`: the solver; for a family, its arrays have a leading axis of points.
    - `family`: whether it is a family.
    - `origins`: that of each seed.
    - `point`, `seed`: for each run, the index of its point and of its origin.
    - `sharding`: how a lane spans several devices, if it does.

    **Attributes:**

    - `start`, `first`: the start that its seed gives the first run, and its lane.
    """

    def __init__(
        self,
        problem: AbstractProblem,
        solver: LineSearchMinimiser,
        family: bool,
        origins: Sequence[Origin],
        point: Int[np.ndarray, " runs"],
        seed: Int[np.ndarray, " runs"],
        sharding: Sharding | None = None,
    ):
        self.problem, self.solver, self.family = problem, solver, family
        self.sharding = sharding
        self._origins, self._point, self._seed = origins, point, seed
        # Indexing host arrays is fast; on a device each index would be a dispatched call.
        self._on_host = jtu.tree_map(
            lambda x: np.asarray(x) if eqx.is_array(x) else x, solver
        )
        self._draw, self._begin = _draw, _begin
        own = self.solver_of(0)
        if sharding is not None:
            self._draw = _splitting(draw, sharding, problem, origins[int(seed[0])])
        self.start = self._start(int(seed[0]))
        if sharding is not None:
            self._begin = _splitting(begin, sharding, own, self.start)
        self.first = self._begin(own, self.start)

    def __len__(self) -> int:
        return len(self._seed)

    def seeds(self, runs: Int[np.ndarray, " n"]) -> list[int]:
        """The seed of each of some runs, as a number."""
        return [self._numbers[k] for k in self._seed[runs].tolist()]

    @functools.cached_property
    def _numbers(self) -> list[int]:
        return [seed_of(origin.key) for origin in self._origins]

    def _start(self, seed: int) -> Start:
        # A clone: jax's check of key reuse may be on, and each draw is the same on purpose.
        origin = self._origins[seed]
        own = Origin(jr.clone(origin.key), origin.params, origin.model_state)
        return self._draw(self.problem, own)

    def solver_of(self, run: int) -> LineSearchMinimiser:
        """The solver of one run."""
        if not self.family:
            return self.solver
        is_stacked = lambda x: isinstance(x, np.ndarray)
        at = lambda x: np.asarray(x[self._point[run]]) if is_stacked(x) else x
        return jtu.tree_map(at, self._on_host)

    def solvers(self, runs: Int[np.ndarray, " n"]) -> LineSearchMinimiser:
        """The solver of some runs; for a family, with a leading axis of runs."""
        if not self.family:
            return self.solver
        take = lambda x: x[self._point[runs]] if eqx.is_array(x) else x
        return jtu.tree_map(take, self.solver)

    def stacked(self, runs: Int[np.ndarray, " n"]) -> list[np.ndarray]:
        """The arrays of the lanes of some runs at their start, stacked."""
        seeds = np.unique(self._seed[runs]).tolist()
        starts = {seed: self._start(seed) for seed in seeds}
        arrays = {
            run: to_host(self._begin(self.solver_of(run), starts[int(self._seed[run])]))
            for run in np.unique(runs).tolist()
        }
        return [np.stack(xs) for xs in zip(*(arrays[run] for run in runs.tolist()))]


def _names(path: Any) -> list[str | int]:
    """The path of a leaf as attribute names, keys and indices."""
    names = []
    for entry in path:
        for attribute in ("name", "key", "idx"):
            if hasattr(entry, attribute):
                names.append(getattr(entry, attribute))
                break
    return [x if isinstance(x, (str, int)) else str(x) for x in names]


def layout_of(lane: PyTree) -> list[dict[str, Any]]:
    """The arrays of a lane: names, shape and dtype; for a random key, its kind too."""
    leaves = jtu.tree_leaves_with_path(eqx.filter(lane, eqx.is_array))
    found = []
    for path, x in leaves:
        key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        plain = jax.eval_shape(jr.key_data, x) if key else x
        entry = {"path": _names(path), "shape": plain.shape, "dtype": str(plain.dtype)}
        found.append(entry | ({"key": str(jr.key_impl(x))} if key else {}))
    return found


def unpacked(layout: Sequence[Mapping[str, Any]], data: bytes) -> list[np.ndarray]:
    """The arrays of a lane, from their bytes one after another.

    **Raises:**

    [`curvopt.StudyError`][] if the sizes do not match.
    """
    arrays, at = [], 0
    for entry in layout:
        dtype = jnp.dtype(entry["dtype"])
        size = int(np.prod(entry["shape"])) * dtype.itemsize
        x = np.frombuffer(data[at : at + size], dtype) if at + size <= len(data) else None
        if x is None:
            break
        arrays.append(x.reshape(entry["shape"]))
        at += size
    if len(arrays) < len(layout) or at != len(data):
        raise StudyError(
            "the saved state of a run does not have the size that its layout says: the "
            "study is damaged. Restore a sound copy, or choose another folder."
        )
    return arrays


def answered(
    layout: Sequence[Mapping[str, Any]], arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The arrays of a lane with the average, if there is one, in place of the last
    parameters: see `Lane.answer`."""
    before = ["strategy", "average", "point"]
    average = {
        tuple(entry["path"][len(before) :]): x
        for entry, x in zip(layout, arrays)
        if entry["path"][: len(before)] == before
    }

    def own(entry: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
        first, *path = entry["path"]
        is_param = first == "params" and average
        return average[tuple(path)].astype(x.dtype) if is_param else x

    return list(map(own, layout, arrays))


def _leaf(entry: Mapping[str, Any], x: np.ndarray) -> Array:
    return (
        jr.wrap_key_data(jnp.asarray(x), impl=entry["key"])
        if "key" in entry
        else jnp.asarray(x)
    )


def lane_tree(layout: Sequence[Mapping[str, Any]], arrays: Sequence[np.ndarray]) -> Any:
    """The arrays as nested dictionaries, with lists where all names are indices."""
    tree: dict = {}
    for entry, x in zip(layout, arrays):
        at = tree
        *parents, last = entry["path"]
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = _leaf(entry, x)

    def listed(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        children = {name: listed(child) for name, child in node.items()}
        if children and all(isinstance(name, int) for name in children):
            if sorted(children) == list(range(len(children))):
                return [children[k] for k in range(len(children))]
        return children

    return listed(tree)


def start_like(
    problem: AbstractProblem, layout: Sequence[Mapping[str, Any]], arrays: Sequence[Any]
) -> tuple[PyTree, PyTree]:
    """Parameters and model state as the problem's `init` returns them."""
    start = eqx.filter_eval_shape(draw, problem, Origin(seed_key(0)))
    like = start.params, start.model_state
    chosen = [k for k, e in enumerate(layout) if e["path"][0] in ("params", "model_state")]
    dynamic, static = eqx.partition(like, lambda x: hasattr(x, "dtype"))
    shapes = jtu.tree_leaves(dynamic)
    found = [_leaf(layout[k], arrays[k]) for k in chosen]
    if [(x.shape, x.dtype) for x in shapes] != [(x.shape, x.dtype) for x in found]:
        raise ValueError(
            "problem must be the one that was trained on, but its parameters and model "
            f"state are {[(x.shape, str(x.dtype)) for x in shapes]} where the run has "
            f"{[(x.shape, str(x.dtype)) for x in found]}."
        )
    return eqx.combine(jtu.tree_unflatten(jtu.tree_structure(dynamic), found), static)
