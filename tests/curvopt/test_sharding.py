"""Data and parameters spread over eight devices, in one process of its own."""

import json
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

import curvopt


METHODS = {
    "two": curvopt.AdjointCurvature(products="two"),
    "three": curvopt.AdjointCurvature(products="three"),
    "forward": curvopt.ForwardCurvature(products="two"),
}
PLACEMENTS = ["data", "parameters", "shard_map"]


def logits(y, x):
    return jnp.tanh(x @ y["first"] + y["bias"]) @ y["second"]


def loss(y, x):
    return -jnp.mean(jax.nn.log_softmax(logits(y, x))[:, 0])


def problem():
    keys = jr.split(jr.key(0), 3)
    shapes = {"first": (5, 16), "bias": (16,), "second": (16, 8)}
    draw = lambda key: {
        name: jr.normal(jr.fold_in(key, k), shape)
        for k, (name, shape) in enumerate(shapes.items())
    }
    return draw(keys[0]), [draw(keys[1]), draw(keys[2])], jr.normal(keys[2], (32, 5))


def expand(loss, method, y, us, x):
    model = curvopt.quadratic_model(loss, y, x, METHODS[method])
    curvature = model.curvature(us[0])
    return model.value, model.grad, curvature, model.curvature_matrix(us)


def by_placement(mesh, placement, method):
    y, us, x = problem()
    put = lambda tree, spec: jax.tree.map(
        lambda a, s: jax.device_put(a, NamedSharding(mesh, s)), tree, spec
    )
    replicated = dict.fromkeys(y, P())
    columns = {"first": P(None, "i"), "bias": P("i"), "second": P(None, "i")}
    spec = columns if placement == "parameters" else replicated
    sharded = put(y, spec), [put(u, spec) for u in us], put(x, P("i"))
    own = loss
    if placement == "shard_map":
        inside = jax.shard_map(
            lambda y, x: jax.lax.psum(loss(y, x), "i") / 8,
            mesh=mesh,
            in_specs=(P(), P("i")),
            out_specs=P(),
        )
        own = lambda y, x: inside(y, x)
    return jax.jit(partial(expand, own, method))(*sharded)


def main():
    mesh = Mesh(np.array(jax.devices()), ("i",))
    results = {
        f"{placement}-{method}": by_placement(mesh, placement, method)
        for placement in PLACEMENTS
        for method in METHODS
    }
    flat = {
        key: [np.asarray(a).tolist() for a in jax.tree.leaves(result)]
        for key, result in results.items()
    }
    print(json.dumps([mesh.size, flat]))


@pytest.fixture(scope="module")
def eight_devices():
    eight = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {eight}",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
    }
    command = [sys.executable, __file__]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    count, results = json.loads(child.stdout)
    assert count == 8
    return results


@pytest.fixture(scope="module")
def one_device():
    with jax.enable_x64(True):
        run = lambda method: jax.jit(partial(expand, loss, method))(*problem())
        return {method: jax.tree.leaves(run(method)) for method in METHODS}


def test_sharded_is_as_on_one_device(eight_devices, one_device):
    """Value, gradient, curvature and curvature matrix of all methods, for all placements:
    one test, so that only one process starts the child."""
    for case in (f"{placement}-{method}" for placement in PLACEMENTS for method in METHODS):
        method = case.rpartition("-")[2]
        for a, b in zip(eight_devices[case], one_device[method], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13, err_msg=case)


if __name__ == "__main__":
    main()
