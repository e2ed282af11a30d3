"""One model over several devices, in a process of its own, is that of one device."""

import dataclasses
import functools
import json
import os
import subprocess
import sys

import _processes
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
from experiments.problems import TransformerNetwork
from strategies import Adam, CurvatureRescaling, Momentum, WindowAverage


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


class OneHot(eqx.Module):
    """An embedding as a product. Along explicit axes, indexing has to be told how its
    result is split."""

    weight: jax.Array

    def __call__(self, x):
        return jax.nn.one_hot(x, len(self.weight)) @ self.weight


def transformer():
    """The next symbol, each of which is the successor of the one before."""

    def model(key):
        net = TransformerNetwork(16, 2, 2, 8, 32, scanned=True, key=key)
        embedding = OneHot(net.characters.weight)
        return eqx.tree_at(lambda net: net.characters, net, embedding)

    text = (jr.randint(jr.key(0), (32, 1), 0, 32) + jnp.arange(9)) % 32
    return curvopt.SupervisedProblem(
        curvopt.EquinoxModel(model),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        train=(text[:, :-1], text[:, 1:]),
        batch_size=16,
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
    """With weights that are split, and biases that are not."""
    return curvopt.Sharding(mesh, curvopt.FullySharded(mesh, at_least=20))


def adam(rate=0.5):
    rule = CurvatureRescaling(rate, average=0.9, along="fresh")
    return curvopt.LineSearchMinimiser(Adam(), rule)


def trained(execution, problem=None, rate=0.5, average=None):
    problem = Gathered(supervised()) if problem is None else problem
    options = {"steps": 4, "evaluations": 2, "progress": False}
    solver = dataclasses.replace(adam(rate), average=average)
    result = curvopt.train(problem, solver, jr.key(0), execution=execution, **options)
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


def check_evaluation_is_split():
    """Along automatic axes each device evaluates its part of the examples."""
    problem, sharding = supervised(), curvopt.Sharding(mesh_of("auto"))
    params, state = problem.init(jr.key(0))

    def flops(problem):
        evaluate = jax.jit(lambda params: problem.evaluate(params, state))
        return evaluate.lower(params).compile().cost_analysis()["flops"]

    with jax.set_mesh(sharding.mesh):
        assert flops(sharding.spread(problem)) < 2 / jax.device_count() * flops(problem)


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
    micro = curvopt.MicroBatched(Gathered(supervised()), 2)
    execution = curvopt.Execution(sharding=fully(mesh), loop="scan")
    result, found["micro-batches"] = trained(execution, micro, average=WindowAverage())
    weight = result.solver_state.average.point.mlp.layers[1].weight
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


def transformers(kind):
    """Steps of a transformer, fully sharded."""
    execution = curvopt.Execution(sharding=fully(mesh_of(kind)))
    with jax.enable_x64(True):
        result, found = trained(execution, Gathered(transformer()), 0.05)
    state = result.solver_state.direction
    for tree in (result.params, state.means, state.squares):
        for weight in (tree.blocks.up.weight, tree.blocks.attention.query_proj.weight):
            n = jax.device_count()
            assert weight.addressable_shards[0].data.size == weight.size // n
    return found


def resumed(kind, folder):
    """A run that is extended under other shardings."""
    n = jax.device_count()
    half = jax.make_mesh(
        (n // 2,), ("data",), (KINDS[kind],), devices=jax.devices()[: n // 2]
    )
    shardings = {8: fully(mesh_of(kind)), 4: fully(half), 1: None}
    for steps, (devices, sharding) in enumerate(shardings.items(), 2):
        result = curvopt.train(
            Gathered(supervised()),
            adam(),
            jr.key(0),
            steps=steps,
            folder=f"{folder}/{kind}",
            execution=curvopt.Execution(sharding=sharding),
            progress=False,
        )
        places = json.loads(result.history.execution.item())["places"]
        assert len(places) == steps - 1 and places[0].startswith(f"{devices} device")
    leaves = map(np.asarray, jax.tree.leaves(result.params))
    return [x.tolist() for x in (result.history.loss.values, *leaves)]


def studied_elsewhere(folder):
    """A study without a sharding, begun on all devices, on three, and on one."""
    for steps, devices in ((2, 8), (4, 3), (6, 1)):
        execution = curvopt.Execution(devices=jax.devices()[:devices], lanes_at_once=1)
        data = curvopt.run_study(
            supervised(),
            {"a": family},
            hyperparameters={"rate": [0.1, 0.5]},
            seeds=3,
            steps=steps,
            folder=f"{folder}/lanes",
            execution=execution,
            progress=False,
        )
    assert json.loads(data.execution.values[0])["places"] == [
        "1 device",
        "3 devices",
        "8 devices",
    ]
    return [data.loss.values.tolist()]


def in_one_of_two_processes():
    """A loop of one's own, on one model over the devices of both processes."""
    assert jax.device_count() == 2 * jax.local_device_count()
    problem, solver, sharding = supervised(), adam(), fully(mesh_of("auto"))
    with pytest.raises(ValueError, match="a mesh of this process's devices"):
        curvopt.Execution(sharding=sharding)
    return looped(problem, solver, sharding)


def looped(problem, solver, sharding=None):
    """The losses of a loop of one's own."""
    params, model_state = problem.init(jr.key(0))
    state, losses = solver.init_strategy(params, jr.key(1)), []
    if sharding is not None:
        params, state = sharding.put((params, state), params)

    @jax.jit
    def step(params, state, count):
        args = problem.batch(jr.key(2), count), model_state, jr.key(3)
        return solver.update(problem.loss, params, args, count, state)[:3]

    for count in range(4):
        params, state, record = step(params, state, np.int32(count))
        losses.append(float(record.loss))
    if sharding is not None:
        weight = params.mlp.layers[1].weight
        part = weight.addressable_shards[0].data
        assert not weight.is_fully_addressable and 4 * part.size == weight.size
    return losses


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
        check_evaluation_is_split()
        results = {kind: placed(kind) for kind in KINDS}
    elif what == "resumed":
        (folder,) = rows
        results = {kind: resumed(kind, folder) for kind in KINDS}
        results["lanes"] = studied_elsewhere(folder)
    elif what == "process":
        results = in_one_of_two_processes()
    elif what == "transformer":
        results = {kind: transformers(kind) for kind in KINDS}
    else:
        results = {row: steps_of(*row.split(" | ")) for row in rows}
        if what == "few":
            results["engine"] = few_placed("auto")
    print(json.dumps([jax.device_count(), results]))


def start(what, *rows, devices=8, first=""):
    """In a process of its own; `first` runs before anything else of jax."""
    code = f"{first}\nimport test_sharded_models as t\nt.main({what!r}, *{rows!r})"
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)


def results_of(child, devices):
    out, errors = child.communicate(timeout=900)
    assert child.returncode == 0, errors
    count, results = json.loads(out.splitlines()[-1])  # others are those of gloo
    assert count == devices
    return results


def run(what, *rows, devices=8):
    return results_of(start(what, *rows, devices=devices), devices)


def assert_close(a, b, rtol=1e-4):
    for x, z in zip(a, b, strict=True):
        np.testing.assert_allclose(x, z, rtol=rtol, atol=1e-5)


@pytest.mark.slow
def test_all_that_the_engine_runs():
    """Loops, data parallel and fully sharded; micro-batches and averages; lanes beside the
    axes of a model, one and two on each group of devices."""
    _, one = trained(curvopt.Execution())
    _, averaged = trained(curvopt.Execution(), average=WindowAverage())
    study = studied(curvopt.Execution())
    expected = {"micro-batches": averaged, "1 lanes": study, "2 lanes": study}
    for results in run("engine").values():
        for name, found in results.items():
            assert_close(found, expected.get(name, one))


@pytest.mark.slow
def test_two_processes():
    """A loop of one's own, of two devices in each."""
    first = f"import _processes; _processes.join({_processes.address()!r}, {{}})"
    both = [start("process", devices=2, first=first.format(k)) for k in range(2)]
    try:
        for child in both:
            losses = results_of(child, 4)
            np.testing.assert_allclose(losses, looped(supervised(), adam()), rtol=1e-4)
    finally:
        for child in both:
            child.kill()


@pytest.mark.slow
def test_a_transformer(x64):
    """In float64: Adam divides a gradient that is zero but for rounding, as that of the
    keys' biases is, by its own size."""
    one, numbers = trained(curvopt.Execution(), Gathered(transformer()), 0.05)
    assert one.history.train_loss[-1] < one.history.train_loss[0] / 1.3
    for found in run("transformer").values():
        for x, z in zip(found, numbers, strict=True):
            np.testing.assert_allclose(x, z, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_resumes_elsewhere(tmp_path):
    """On fewer devices, and on one without a sharding; lanes too. The numbers are those of
    one run."""
    found = run("resumed", str(tmp_path))
    result, _ = trained(curvopt.Execution())
    expected = [
        result.history.loss.values,
        *map(np.asarray, jax.tree.leaves(result.params)),
    ]
    for kind in KINDS:
        assert_close(found[kind], expected)
    whole = curvopt.run_study(
        supervised(),
        {"a": family},
        hyperparameters={"rate": [0.1, 0.5]},
        seeds=3,
        steps=6,
        progress=False,
    )
    assert_close(found["lanes"], [whole.loss.values])
    loaded = curvopt.load_study(tmp_path / "auto").loss.isel(strategy=0, seed=0)
    np.testing.assert_allclose(loaded, result.history.loss, rtol=1e-4)


def named(row):
    return " | ".join(row)


def check_rows(found, rows):
    alone = functools.cache(lambda direction, rule: steps_of(direction, rule, None))
    for row in rows:
        one = alone(*row[:2])
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
@pytest.mark.parametrize("half", [0, 1])
def test_every_strategy(half):
    """Each direction and each line search, along both kinds of axes."""
    pairs = [row[:2] for row in covering(None)[half::2]]
    rows = [(*pair, kind) for pair in pairs for kind in KINDS]
    # BFGS makes one vector of the parameters, which explicit axes do not allow.
    rows = [row for row in rows if row[0] != "BFGS" or row[-1] == "auto"]
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
