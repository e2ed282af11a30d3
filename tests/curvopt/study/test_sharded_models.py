"""One model over several devices, in a process of its own, is that of one device."""

import json
import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec as P
from strategies_by_name import covering, DIRECTIONS, LINE_SEARCHES

import curvopt
from strategies import Adam, CurvatureRescaling, Momentum


AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
KINDS = {"auto": AUTO, "explicit": EXPLICIT}


class Net(eqx.Module):
    mlp: eqx.nn.MLP

    def __init__(self, key):
        self.mlp = eqx.nn.MLP(8, 4, 16, 2, jnp.tanh, key=key)

    def __call__(self, x):
        return self.mlp(x)


def supervised():
    x = jr.normal(jr.key(0), (64, 8))
    return curvopt.SupervisedProblem(
        curvopt.EquinoxModel(Net),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        train=(x, jr.randint(jr.key(1), (64,), 0, 4)),
        batch_size=32,
    )


class Gathered(curvopt.AbstractProblem):
    """Parameters that are split along explicit axes are gathered where they are used."""

    problem: curvopt.AbstractProblem

    def _gathered(self, params):
        def gather(x):
            sharding = jax.typeof(x).sharding
            explicit = EXPLICIT in sharding.mesh.axis_types
            return jax.sharding.reshard(x, P()) if explicit else x

        return jax.tree.map(gather, params)

    def init(self, key):
        return self.problem.init(key)

    def batch(self, key, count):
        return self.problem.batch(key, count)

    def loss(self, params, args):
        return self.problem.loss(self._gathered(params), args)

    def evaluate(self, params, model_state):
        return self.problem.evaluate(self._gathered(params), model_state)

    @property
    def steps_per_epoch(self):
        return self.problem.steps_per_epoch


def mesh_of(kind, *, lanes=None):
    shape, names = (jax.device_count(),), ("data",)
    if lanes:
        shape, names = (lanes, jax.device_count() // lanes), ("lanes", "data")
    return jax.make_mesh(shape, names, axis_types=(KINDS[kind],) * len(names))


def fully(mesh):
    return curvopt.Sharding(mesh, curvopt.FullySharded(mesh, at_least=2))


def adam():
    rule = CurvatureRescaling(0.5, average=0.9, along="fresh")
    return curvopt.LineSearchMinimiser(Adam(), rule)


def trained(execution, problem=None):
    problem = Gathered(supervised()) if problem is None else problem
    options = {"steps": 4, "evaluations": 2, "progress": False}
    result = curvopt.train(problem, adam(), jr.key(0), execution=execution, **options)
    history = result.history
    numbers = [history.loss.values, history.train_loss.values, history.step_size.values]
    leaves = jax.tree.leaves(result.params)
    return result, [x.tolist() for x in [*numbers, *map(np.asarray, leaves)]]


def family(rate):
    rule = CurvatureRescaling(rate, average=0.9)
    return curvopt.LineSearchMinimiser(Momentum(), rule)


def studied(execution):
    data = curvopt.run_study(
        Gathered(supervised()),
        {"a": family},
        hyperparameters={"rate": [0.1, 0.5]},
        seeds=3,
        steps=4,
        evaluations=2,
        execution=execution,
        progress=False,
    )
    return [data.loss.values.tolist(), data.train_loss.values.tolist()]


def check_split(result, n):
    """Parameters, and the state that belongs to them, are a part on each device."""
    state = result.solver_state.direction
    for tree in (result.params, state.means, state.squares):
        weight = tree.mlp.layers[1].weight
        assert weight.addressable_shards[0].data.size == weight.size // n, weight.sharding


def placed(kind):
    """Everything that runs through the engine, by name."""
    n, mesh = jax.device_count(), mesh_of(kind)
    found = {}
    for name, sharding, loop in (
        ("data parallel", curvopt.Sharding(mesh), "scan"),
        ("fully sharded", fully(mesh), "dispatch"),
    ):
        execution = curvopt.Execution(sharding=sharding, loop=loop)
        result, found[name] = trained(execution)
        check_split(result, n if name == "fully sharded" else 1)
    micro = curvopt.AveragedParameters(curvopt.MicroBatched(Gathered(supervised()), 2))
    execution = curvopt.Execution(sharding=fully(mesh), loop="scan")
    result, found["micro-batches"] = trained(execution, micro)
    weight = result.model_state.average.mlp.layers[1].weight
    assert weight.addressable_shards[0].data.size == weight.size // n
    both = fully(mesh_of(kind, lanes=2))
    for width in (1, 2):
        execution = curvopt.Execution(sharding=both, lanes_at_once=width)
        found[f"{width} lanes"] = studied(execution)
    return found


def few_placed(kind):
    """One program of those."""
    result, found = trained(curvopt.Execution(sharding=fully(mesh_of(kind))))
    check_split(result, jax.device_count())
    return {"fully sharded": found}


def steps_of(direction, rule, kind):
    """Two steps of a strategy; fully sharded, if there is a kind of axes."""
    problem = Gathered(supervised())
    solver = curvopt.LineSearchMinimiser(DIRECTIONS[direction], LINE_SEARCHES[rule])
    params, state = problem.init(jr.key(0))
    strategy, sharding = solver.init_strategy(params, jr.key(1)), None
    if kind:
        sharding = fully(mesh_of(kind))
        split = sharding.put((params, strategy), params)
        specs = sharding.specs(params, split)
        params, strategy = split
        problem = sharding.spread(problem)

    @jax.jit
    def step(params, strategy, count):
        args = problem.batch(jr.key(2), count), state, jr.key(3)
        params, strategy, record, _ = solver.update(
            problem.loss, params, args, count, strategy
        )
        if sharding is not None:
            params, strategy = sharding.constrained((params, strategy), specs)
        return params, strategy, record

    mesh = sharding.mesh if sharding else jax.make_mesh((1,), ("one",), (AUTO,))
    with jax.set_mesh(mesh):
        for count in range(2):
            params, strategy, record = step(params, strategy, jnp.array(count))
    leaves = [*jax.tree.leaves(params), record.loss, record.step_size]
    return [np.asarray(x).tolist() for x in leaves]


def main(what, *rows):
    if what == "engine":
        results = {kind: placed(kind) for kind in KINDS}
    else:
        results = {row: steps_of(*row.split(" | ")) for row in rows}
        if what == "few":
            results["engine"] = few_placed("auto")
    print(json.dumps([jax.device_count(), results]))


def run(what, *rows, devices=8):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    child = subprocess.run(
        [sys.executable, __file__, what, *rows],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    count, results = json.loads(child.stdout)
    assert count == devices
    return results


def assert_close(a, b, rtol=1e-4):
    for x, z in zip(a, b, strict=True):
        np.testing.assert_allclose(x, z, rtol=rtol, atol=1e-5)


@pytest.mark.slow
def test_all_that_the_engine_runs():
    """Loops, data parallel and fully sharded; micro-batches and averages; lanes beside the
    axes of a model, one and two on each group of devices."""
    _, one = trained(curvopt.Execution())
    study = studied(curvopt.Execution())
    for results in run("engine").values():
        for name, found in results.items():
            assert_close(found, study if "lanes" in name else one)


def named(row):
    return " | ".join(row)


def check_rows(found, rows):
    for row in rows:
        one = steps_of(*row[:2], None)
        steps = found[named(row)]
        np.testing.assert_allclose(steps[-2:], one[-2:], rtol=1e-3, err_msg=named(row))
        assert_close(steps, one, rtol=1e-3)


FEW = [covering("explicit")[9]]


@pytest.mark.slow
def test_a_few():
    """Guards against an engine or strategies that gather, or that mix the devices' parts:
    in one process of four devices."""
    found = run("few", *map(named, FEW), devices=4)
    assert_close(found["engine"]["fully sharded"], trained(curvopt.Execution())[1])
    check_rows(found, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_strategy(kind):
    """Each direction and each line search."""
    rows = covering(kind)
    check_rows(run("steps", *map(named, rows), devices=4), rows)


class TestSharding:
    def test_the_longest_axis_that_the_devices_divide(self):
        mesh = jax.make_mesh((1,), ("data",), axis_types=(AUTO,))
        rule = curvopt.FullySharded(mesh, at_least=1)
        assert rule("", (3, 8)) == P(None, "data")
        assert rule("", (8, 8)) == P("data")
        assert rule("", ()) == P()
        assert curvopt.FullySharded(mesh, at_least=100)("", (3, 8)) == P()

    def test_arrays_that_belong_to_a_parameter(self):
        """By their path's end and their last axes: histories have an axis more."""
        mesh = jax.make_mesh((1,), ("data",), axis_types=(AUTO,))
        rule = lambda path, shape: P("data") if path == "['w']" else P()
        sharding = curvopt.Sharding(mesh, rule)
        y = {"w": jnp.zeros((4, 3)), "b": jnp.zeros(4)}
        tree = {"mean": y, "history": {"w": jnp.zeros((5, 4, 3))}, "w": jnp.zeros(3)}
        specs = sharding.specs(y, tree)
        # In the order of leaves: the history, the mean's b and w, and a w of no parameter.
        assert specs == (P(None, "data"), P(), P("data"), P())

    @pytest.mark.parametrize(
        "make, message",
        [
            (lambda mesh: curvopt.Sharding("data"), "mesh must be an instance of jax"),
            (lambda mesh: curvopt.Sharding(mesh, batch=P("x")), "batch must name axes"),
            (lambda mesh: curvopt.Sharding(mesh, batch=P("lanes")), "batch must name axes"),
            (lambda mesh: curvopt.Sharding(mesh, P("data")), "params must be a rule"),
            (lambda mesh: curvopt.FullySharded(mesh, "model"), "axis must name axes"),
            (
                lambda mesh: curvopt.Execution(
                    sharding=curvopt.Sharding(mesh), devices=jax.devices()
                ),
                "devices must be left out beside a sharding",
            ),
            (
                lambda mesh: curvopt.Sharding(mesh, lambda path, shape: "data").specs(
                    jnp.zeros(3), jnp.zeros(3)
                ),
                "params must return a jax.sharding.PartitionSpec",
            ),
            (
                lambda mesh: curvopt.Sharding(mesh, lambda path, shape: P("x")).specs(
                    jnp.zeros(3), jnp.zeros(3)
                ),
                "params must name axes of the mesh",
            ),
        ],
    )
    def test_bad_arguments(self, make, message, unchecked):
        mesh = jax.make_mesh((1, 1), ("lanes", "data"), axis_types=(AUTO,) * 2)
        with pytest.raises(ValueError, match=message):
            make(mesh)

    def test_axes_of_several_types(self):
        mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(AUTO, EXPLICIT))
        with pytest.raises(ValueError, match="all automatic or all explicit"):
            curvopt.Sharding(mesh)


if __name__ == "__main__":
    main(*sys.argv[1:])
