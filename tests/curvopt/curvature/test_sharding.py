"""Data and parameters spread over two and eight devices, in a process of their own."""

import json
import os
import subprocess
import sys
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import optimistix as optx
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import curvopt
from strategies import (
    Backtracking,
    CurvatureRescaling,
    FromSearch,
    LBFGS,
    LearningRate,
    NonlinearCG,
    scale_by_line_search,
    SGD,
)


METHODS = {
    "two": curvopt.AdjointCurvature(products="two"),
    "three": curvopt.AdjointCurvature(products="three"),
    "forward": curvopt.ForwardCurvature(products="two"),
}
# Data or parameters are split along axes that are automatic or explicit; or the loss is
# inside a shard_map, or all of the model.
PLACEMENTS = [
    "data",
    "parameters",
    "data, explicit",
    "parameters, explicit",
    "shard_map",
    "model in shard_map",
]


def hidden(y, x):
    return jnp.tanh((x * y["scale"]) @ y["first"] + y["bias"])


def plain(y, x):
    return jnp.mean(jax.nn.logsumexp(hidden(y, x) * y["second"][0], axis=1) ** 2)


def in_a_loop(y, x):
    """A scan that carries, slices and puts out, in part recomputed."""

    @jax.checkpoint
    def layer(h, w):
        return jnp.tanh(h * w + y["bias"])

    def step(h, w):
        return layer(h, w), jnp.mean(jnp.sum(h**2, axis=1) * jnp.sum(w**2))

    h, sums = jax.lax.scan(step, hidden(y, x), y["second"])
    return jnp.mean(jnp.sum(h**3, axis=1)) + jnp.sum(sums)


COLUMNS = {"scale": P(), "first": P(None, "i"), "bias": P("i"), "second": P(None, "i")}
LOSSES = {"plain": plain, "loop": in_a_loop}


def problem():
    keys = jr.split(jr.key(0), 3)
    shapes = {"scale": (5,), "first": (5, 16), "bias": (16,), "second": (2, 16)}
    draw = lambda key: {
        name: jr.normal(jr.fold_in(key, k), shape) / 2
        for k, (name, shape) in enumerate(shapes.items())
    }
    return draw(keys[0]), [draw(keys[1]), draw(keys[2])], jr.normal(keys[2], (32, 5))


def expand(loss, method, y, us, x):
    model = curvopt.quadratic_model(loss, y, x, method)
    slope, curvature = model.slope(us[0]), model.curvature(us[0])
    # A vector, and two parts of another.
    parts = curvopt.partition(us[1], {"scale": 0, "first": 1, "bias": 0, "second": 1})
    matrix = model.curvature_matrix([us[0], *parts])
    return model.value, model.grad, slope, curvature, matrix


def by_placement(placement, method, loss):
    kind = AxisType.Explicit if "explicit" in placement else AxisType.Auto
    mesh = jax.make_mesh((len(jax.devices()),), ("i",), axis_types=(kind,))
    y, us, x = problem()
    put = lambda tree, spec: jax.tree.map(
        lambda a, s: jax.device_put(a, NamedSharding(mesh, s)), tree, spec
    )
    spec, x_spec = dict.fromkeys(y, P()), P("i")
    if placement.startswith("parameters"):
        spec, x_spec = COLUMNS, P()
    sharded = put(y, spec), [put(u, spec) for u in us], put(x, x_spec)
    inside = partial(jax.shard_map, mesh=mesh, out_specs=P())
    if placement == "shard_map":
        mean = lambda y, x: jax.lax.psum(loss(y, x), "i") / mesh.size
        loss_of_all = inside(mean, in_specs=(P(), P("i")))
        return jax.jit(partial(expand, lambda y, x: loss_of_all(y, x), method))(*sharded)
    if placement == "model in shard_map":
        mean = lambda y, x: jax.lax.pmean(loss(y, x), "i")
        local = partial(expand, mean, method)
        return jax.jit(inside(local, in_specs=(P(), P(), P("i"))))(*sharded)
    return jax.jit(partial(expand, loss, method))(*sharded)


def rescaled_steps(direction, rule, y, x, loss):
    """Two steps of a solver, and one of an optax chain."""
    solver = curvopt.LineSearchMinimiser(direction, rule)
    state, own = solver.init_strategy(y, jr.key(0)), lambda y, x: (loss(y, x), None)
    for count in range(2):
        y, state, *_ = solver.update(own, y, x, jnp.array(count, jnp.int32), state)
    tx = optax.chain(optax.scale(-1.0), scale_by_line_search(rule))
    grad, value_fn = jax.grad(loss)(y, x), lambda y: loss(y, x)
    updates, _ = tx.update(grad, tx.init(y), y, value_fn=value_fn)
    return optax.apply_updates(y, updates)


STRATEGIES = {
    "rescaled": (SGD(), CurvatureRescaling()),
    "LBFGS": (LBFGS(3), Backtracking(LearningRate(1.0))),
    "NonlinearCG": (NonlinearCG(), FromSearch(optx.BacktrackingArmijo())),
}


def steps_by_placement(placement, name):
    y, _, x = problem()
    steps = partial(rescaled_steps, *STRATEGIES[name])
    if placement == "one device":
        return jax.jit(partial(steps, loss=plain))(y, x)
    kind = AxisType.Explicit if placement == "explicit" else AxisType.Auto
    mesh = jax.make_mesh((len(jax.devices()),), ("i",), axis_types=(kind,))
    if placement == "explicit":
        y = {n: jax.device_put(a, NamedSharding(mesh, COLUMNS[n])) for n, a in y.items()}
        x = jax.device_put(x, NamedSharding(mesh, P()))
        return jax.jit(partial(steps, loss=plain))(y, x)
    mean = lambda y, x: jax.lax.pmean(plain(y, x), "i")
    inside = partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("i")), out_specs=P())
    return jax.jit(inside(partial(steps, loss=mean)))(y, x)


WHAT = [("two", "loop"), ("three", "plain"), ("forward", "loop")]
KINDS = ["explicit", "shard_map"]
# Few of the cases are such that each method, loss, and way of placing arrays is met.
FEW = ["data", "parameters, explicit", "model in shard_map"]
FEW_STRATEGIES = ["rescaled"]
CASES = {"all": product(PLACEMENTS, WHAT), "few": zip(FEW, WHAT)}
STEPS = {"all": product(KINDS, STRATEGIES), "few": product(KINDS, FEW_STRATEGIES)}


def main(which):
    results = {
        f"{placement}, {how}-{loss}": by_placement(placement, METHODS[how], LOSSES[loss])
        for placement, (how, loss) in CASES[which]
    }
    results |= {
        f"steps, {placement}-{name}": steps_by_placement(placement, name)
        for placement, name in STEPS[which]
    }
    flat = {
        key: [np.asarray(a).tolist() for a in jax.tree.leaves(result)]
        for key, result in results.items()
    }
    print(json.dumps([len(jax.devices()), flat]))


def run_on(count, which):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
    }
    command = [sys.executable, __file__, which]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    devices, results = json.loads(child.stdout)
    assert devices == count
    return results


SLOW = [pytest.param(*row, marks=pytest.mark.slow) for row in ((2, "all"), (8, "few"))]


@pytest.mark.parametrize("count, which", [(2, "few"), *SLOW])
def test_sharded_is_as_on_one_device(count, which, x64):
    """Value, gradient, slope, curvature and curvature matrix of all methods, and steps, for
    all placements: one test, so that only one process starts the child."""
    reference = curvopt.HvpCurvature()
    expected = {
        name: jax.jit(partial(expand, loss, reference))(*problem())
        for name, loss in LOSSES.items()
    }
    expected |= {
        name: steps_by_placement("one device", name)
        for name in (STRATEGIES if which == "all" else FEW_STRATEGIES)
    }
    for case, result in run_on(count, which).items():
        leaves = jax.tree.leaves(expected[case.partition("-")[2]])
        for a, b in zip(result, leaves, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=case)


if __name__ == "__main__":
    main(sys.argv[1])
