r"""The curvature matrix of a vector's parts, which carries symbolic zeros, against that of
vectors whose zeros are written out."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from curvature_oracle import dense_hessian, EXACT, name, random_like

import curvopt


def network(key=0, depth=2):
    model = eqx.nn.MLP(4, 3, 5, depth, jax.nn.gelu, key=jr.key(key))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    x, labels = jr.normal(jr.key(1), (7, 4)), jnp.arange(7) % 3

    def loss(params, _):
        logits = curvopt.tag_output(jax.vmap(eqx.combine(params, static))(x))
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(7), labels])

    return loss, params


def dense(part, y):
    return jax.tree.map(lambda a, b: jnp.zeros_like(a) if b is None else b, y, part)


def matrix(loss, y, us, method=curvopt.AdjointCurvature()):
    return curvopt.quadratic_model(loss, y, curvature=method).curvature_matrix(us)


def close(got, expected, rtol=1e-9, err_msg=""):
    assert np.abs(expected).max() > 1e-6, "a matrix of zeros shows nothing"
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=err_msg)


def test_every_method_against_the_dense_hessian(x64):
    loss, y = network(depth=1)
    u = random_like(y)
    parts = curvopt.partition(u)
    rows = [jax.flatten_util.ravel_pytree(dense(part, y))[0] for part in parts]
    columns = jnp.stack(rows, axis=1)
    expected = columns.T @ dense_hessian(lambda y: loss(y, None), y) @ columns
    part = curvopt.SubsampledCurvature(1.0, batch=lambda args: args)
    methods = [*EXACT, part]

    @jax.jit
    def run(y, parts, u):
        of = lambda method: curvopt.quadratic_model(
            lambda y, args: loss(y, args) * args[0], y, jnp.ones(1), method
        )
        matrices = [of(method).curvature_matrix(parts) for method in methods]
        model = of(methods[0])
        sums = [(model.slope(p), model.curvature(p)) for p in parts]
        return matrices, sums, model.slope(u), model.curvature(u), model.product(parts[0])

    matrices, sums, slope, curvature, product = run(y, parts, u)
    for method, got in zip(methods, matrices, strict=True):
        close(got, expected, err_msg=name(method))
    close(matrices[0].sum(), curvature)
    close(sum(slope for slope, _ in sums), slope)
    close(jnp.array([curvature for _, curvature in sums]), jnp.diag(expected))
    close(curvopt.tree_dot(product, u), expected[0].sum())


@jax.custom_vjp
def steeper(x):
    return x**2


steeper.defvjp(lambda x: (x**2, x), lambda x, g: (jnp.sin(g) * x,))


def of_a_scan(y):
    """A part that is carried, one that is scanned over, one that every iteration uses, and
    one behind the loop."""

    def step(h, w):
        h = jnp.tanh(y["c"] @ (w @ h))
        return h, jnp.sum(h**3)

    h, sums = lax.scan(step, y["a"][0], jnp.stack([y["b"], y["b"] ** 2]))
    return jnp.sum(jnp.sin(h @ y["d"])) + jnp.sum(sums)


def of_a_remat(y):
    inside = jax.checkpoint(lambda a, b: jnp.tanh(a @ y["c"]) @ b)
    return jnp.sum(jnp.tanh(inside(jnp.sin(y["a"]), y["b"]) @ y["d"]) ** 2)


def of_a_remat_in_a_scan(y):
    layer = jax.checkpoint(lambda h, w: jnp.tanh(h @ w + y["c"]))
    h, _ = lax.scan(
        lambda h, w: (layer(h, w), None), y["a"], jnp.stack([y["b"], y["d"]]), reverse=True
    )
    return jnp.sum(h**3)


def of_a_custom_vjp(y):
    return jnp.sum(steeper(jnp.tanh(y["a"] @ y["b"])) * y["c"]) + jnp.sum(y["d"] ** 2)


def of_a_cond(y):
    branches = lambda a, b: jnp.tanh(a @ b), lambda a, b: a * b
    h = lax.cond(y["a"][0, 0] > 100, *branches[::-1], y["b"], y["c"])
    return jnp.sum(jnp.sin(h @ y["a"]) @ y["d"])


def of_skips(y):
    """Sums, products and concatenations of values that different parts reach."""
    h = jnp.tanh(y["d"] @ y["b"])
    g = jnp.concatenate([h + y["a"], y["a"] * y["c"], h], axis=1)
    k = h / (2 + jnp.cos(y["c"]))
    return jnp.sum(g**3) + jnp.sum(jnp.exp(k) * jnp.where(h > 0, y["c"], k))


def of_shared_weights(y):
    """A layer used three times, with another in between."""
    h = jnp.tanh(jnp.tanh(y["a"] @ y["b"]) @ y["a"])
    return jnp.sum(jnp.tanh(h @ y["c"] @ y["a"].T) ** 2)


def of_convolutions(y):
    image = lambda x: x.reshape(1, 1, 3, 3)
    h = lax.conv(image(y["a"]), image(y["b"]), (1, 1), "SAME")
    h = jnp.tanh(lax.conv(h, image(y["c"]), (1, 1), "SAME"))
    return jnp.sum(lax.conv(h, image(y["d"]), (1, 1), "SAME") ** 2)


STRUCTURES = {
    "scan": of_a_scan,
    "remat": of_a_remat,
    "remat in scan": of_a_remat_in_a_scan,
    "custom_vjp": of_a_custom_vjp,
    "cond": of_a_cond,
    "skips": of_skips,
    "shared": of_shared_weights,
    "convolutions": of_convolutions,
}


# One of each kind; the others are slow.
ALWAYS = "scan", "remat in scan", "custom_vjp", "skips"
CASES = [
    pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow)
    for name in STRUCTURES
]


@pytest.mark.parametrize("which", CASES)
def test_structures(which, x64):
    """With all subsets of the arrays, so that every operand of every equation has its own
    vectors, in an order that is not the loss's."""
    keys = jr.split(jr.key(3), 4)
    y = {name: jr.normal(key, (3, 3)) for name, key in zip("dbca", keys)}
    u = random_like(y)
    sets = ["a", "bd", "c", "abcd", "d", "ac"]
    only = lambda names: {name: x if name in names else None for name, x in u.items()}
    us = [only(names) for names in sets]
    loss = lambda y, _: STRUCTURES[which](y)

    @jax.jit
    def run(y, us):
        written_out = [dense(part, y) for part in us]
        product = jax.jacrev if which == "custom_vjp" else jax.jacfwd
        along = lambda u: product(
            lambda t: jax.grad(loss)(jax.tree.map(lambda y, u: y + t * u, y, u), None)
        )(0.0)
        products = [along(u) for u in written_out]
        expected = [[curvopt.tree_dot(u, p) for p in products] for u in written_out]
        return matrix(loss, y, us), expected

    got, expected = run(y, us)
    close(got, jnp.array(expected))


@pytest.mark.parametrize("where", ["plain", "remat", "scan"])
def test_the_gauss_newton_matrix(where, x64):
    """It leaves out the model's curvature, wherever the tag is, but not that of what else
    the loss has of the parameters."""
    x = jr.normal(jr.key(2), (4, 3))

    def model(y, x):
        h = jnp.tanh(jnp.tanh(x @ y["a"]) @ y["b"])
        return curvopt.tag_output(h @ y["c"])

    def loss(y, _):
        decay = jnp.sum(y["b"] ** 4) / 50
        if where == "scan":
            step = lambda total, x: (total + jnp.mean(model(y, x) ** 4), None)
            return lax.scan(step, 0.0, x)[0] / 4 + decay
        apply = jax.checkpoint(model) if where == "remat" else model
        return jnp.mean(apply(y, x) ** 4) + decay

    y = {name: jr.normal(key, (3, 3)) for name, key in zip("abc", jr.split(jr.key(3), 3))}
    parts = curvopt.partition(random_like(y), curvopt.array_labels)

    @jax.jit
    def run(y, parts):
        method = curvopt.GaussNewtonCurvature()
        model = curvopt.quadratic_model(loss, y, curvature=method)
        # By polarisation; other tests check the curvature against its definition.
        along = curvopt.QuadraticModel(grad=model.grad, curvature=model.curvature)
        matrices = model.curvature_matrix(parts), along.curvature_matrix(parts)
        return *matrices, matrix(loss, y, parts)

    got, expected, hessian = run(y, parts)
    assert np.abs(expected - hessian).max() > 0.1 * np.abs(hessian).max()
    assert np.linalg.eigvalsh(expected).min() > 0
    close(got, expected)


def test_vmapped_equals_looped(x64):
    loss, _ = network()
    ys = [network(key)[1] for key in range(3)]
    run = jax.jit(lambda y: matrix(loss, y, curvopt.partition(jax.tree.map(jnp.sin, y))))
    expected = jnp.stack([run(y) for y in ys])
    got = jax.vmap(run)(jax.tree.map(lambda *y: jnp.stack(y), *ys))
    close(got, expected, rtol=1e-12)


def test_a_part_that_the_loss_does_not_use():
    y = {"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.ones(2)}
    loss = lambda y, _: jnp.sum(y["a"] ** 2 * lax.stop_gradient(y["c"]))
    got = matrix(loss, y, curvopt.partition(y, curvopt.array_labels))
    np.testing.assert_array_equal(got, np.diag([4.0, 0, 0]))
    nothing = dict.fromkeys(y)
    np.testing.assert_array_equal(matrix(loss, y, [nothing, nothing]), np.zeros((2, 2)))


def test_a_curvature_that_is_not_finite_stays_in_its_part():
    loss = lambda y, _: jnp.sum(y["a"] ** 2) + jnp.sum(jnp.sqrt(y["b"]))
    y = {"a": jnp.ones(2), "b": jnp.zeros(2)}
    got = matrix(
        loss, y, curvopt.partition({"a": y["a"], "b": jnp.ones(2)}, curvopt.array_labels)
    )
    assert got[0, 0] == 4 and got[0, 1] == got[1, 0] == 0 and not jnp.isfinite(got[1, 1])


def products(depth):
    """Matrix products for `depth` equal layers: of the gradient; of the matrix of a
    vector's layers; and of that of as many vectors without zeros."""
    gradient = 3 * depth - 1
    own, above, bilinear = depth, depth * (depth - 1) // 2, depth - 1
    return gradient, own + above + bilinear, depth * (3 * depth - 2)


def test_the_layers_of_a_vector_cost_what_they_must(depth=6):
    """1.53 gradients for six equal layers, where six vectors take 5.6; a tenth of a
    gradient on a sixteenth of the batch, with 0.05 for its forward and backward sweeps."""
    width, batch = 128, 512

    def loss(y, x):
        for w in y:
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2)

    y, x = [jnp.ones((width, width))] * depth, jnp.ones((batch, width))
    each = list(range(depth))

    def flops(ask, method: curvopt.AbstractCurvatureMethod = curvopt.AdjointCurvature()):
        def run(y, x):
            model = curvopt.quadratic_model(loss, y, x, method)
            return model.grad, ask(model, curvopt.partition(model.grad, each))

        return curvopt.cost.compile_and_analyse(run, y, x).flops

    of_gradient, of_parts, of_vectors = products(depth)
    gradient = flops(lambda model, parts: ())
    parts = flops(lambda model, parts: model.curvature_matrix(parts))
    floor = 1 + of_parts / of_gradient
    assert floor <= parts / gradient <= 1.1 * floor
    written_out = flops(
        lambda model, parts: model.curvature_matrix([dense(p, model.grad) for p in parts])
    )
    assert written_out / gradient >= 1 + of_vectors / of_gradient
    few = curvopt.SubsampledCurvature(1 / 16, batch=lambda args: args)
    sample = flops(lambda model, parts: model.curvature_matrix(parts), few)
    # Values and adjoints of the part: a forward product and a backward one for each layer.
    floor = 1 + (of_parts + 2 * depth - 1) / of_gradient / 16
    assert floor <= sample / gradient <= 1 + 1.1 * (floor - 1)


def test_a_part_of_another_structure_is_refused():
    y = {"a": jnp.ones(2), "b": jnp.ones(3)}
    model = curvopt.quadratic_model(lambda y, _: jnp.sum(y["a"] ** 2), y)
    others = [jnp.ones(2), [jnp.ones(3)]]
    for bad in ({"a": None}, *({"a": None, "b": b} for b in others)):
        for ask in (model.slope, model.curvature, lambda u: model.curvature_matrix([u])):
            with pytest.raises(ValueError, match="u must"):
                ask(bad)
