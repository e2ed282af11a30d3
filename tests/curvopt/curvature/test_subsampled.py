import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import curvopt


def loss(y, args):
    (x, z), scale = args
    return jnp.mean(scale * (jnp.tanh(x @ y["w"]) - z) ** 2), x.shape[0]


def setting():
    y = {"w": jr.normal(jr.key(0), (4,))}
    return y, ((jr.normal(jr.key(1), (10, 4)), jnp.linspace(0, 1, 10)), 3.0)


@pytest.mark.parametrize("fraction, size", [(1.0, 10), (0.5, 5), (0.25, 3), (0.01, 1)])
@pytest.mark.parametrize("method", [curvopt.AdjointCurvature(), curvopt.ForwardCurvature()])
def test_the_curvature_is_that_of_the_first_examples(fraction, size, method):
    y, ((x, z), scale) = setting()
    own = curvopt.SubsampledCurvature(fraction, curvature=method)
    u = {"w": jnp.arange(4.0)}
    run = jax.jit(
        lambda args, m: (lambda q: (q.value, q.slope(u), q.curvature(u), q.aux))(
            curvopt.quadratic_model(loss, y, args, m, has_aux=True)
        ),
        static_argnums=1,
    )
    whole = run(((x, z), scale), curvopt.AdjointCurvature())
    part = run(((x[:size], z[:size]), scale), curvopt.AdjointCurvature())
    value, slope, curvature, aux = run(((x, z), scale), own)
    np.testing.assert_allclose((value, slope), whole[:2], rtol=1e-6)
    np.testing.assert_allclose(curvature, part[2], rtol=1e-5)
    assert aux == 10


def test_the_batch_is_where_it_is_said_to_be():
    y = jnp.ones(3)
    fn = lambda y, args: jnp.mean((args["x"] @ y) ** 2) * args["weight"]
    args = {"weight": 2.0, "x": jnp.eye(3)}
    method = curvopt.SubsampledCurvature(1 / 3, batch=lambda args: args["x"])
    model = curvopt.quadratic_model(fn, y, args, method)
    np.testing.assert_allclose(model.curvature(y), 4.0)
    np.testing.assert_allclose(model.curvature_matrix([y, 2 * y]), [[4, 8], [8, 16]])
    assert model.report().equations[0].primitive == "dot_general"


@pytest.mark.slow
def test_it_is_in_a_study(regression):
    from strategies import CurvatureRescaling, SGD

    solver = curvopt.LineSearchMinimiser(
        SGD(), CurvatureRescaling(), curvature=curvopt.SubsampledCurvature(0.5)
    )
    study = curvopt.run_study(regression, {"half": solver}, seeds=2, steps=6)
    assert np.isfinite(study.curvature).all()


def test_it_costs_a_fraction():
    y = {f"w{k}": jnp.zeros((128, 128)) for k in range(3)}

    def fn(y, args):
        x = args[0]
        for w in y.values():
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2)

    def run(method, y, x):
        model = curvopt.quadratic_model(fn, y, (x,), method)
        u = jax.tree.map(jnp.negative, model.grad)
        return model.value, model.grad, model.curvature(u)

    flops = lambda f: curvopt.cost.compile_and_analyse(f, y, jnp.ones((256, 128))).flops
    gradient = flops(lambda y, x: jax.value_and_grad(fn)(y, (x,)))
    eighth = flops(lambda y, x: run(curvopt.SubsampledCurvature(1 / 8), y, x))
    assert eighth <= 1.2 * gradient


class TestBadInput:
    @pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan")])
    def test_fraction(self, fraction, unchecked):
        with pytest.raises(ValueError, match="fraction must be above 0 and at most 1"):
            curvopt.SubsampledCurvature(fraction)

    @pytest.mark.parametrize(
        "args, message",
        [
            (None, "found no examples"),
            ((), "found no examples"),
            (((jnp.ones((3, 2)), jnp.ones(2)), None), r"\[\(2,\), \(3,\)\]"),
            ((jnp.ones(()),), r"along their first axis.*\[\(\)\]"),
            (jnp.ones((4, 2)), r"batch=lambda args: args"),
            (
                (jnp.ones((3, 2)), jnp.arange(3)),
                r"args\[1\] has 3 entries along its first axis",
            ),
        ],
    )
    def test_args_without_a_batch(self, args, message):
        with pytest.raises(ValueError, match=message):
            curvopt.quadratic_model(
                lambda y, _: jnp.sum(y**2),
                jnp.ones(2),
                args,
                curvopt.SubsampledCurvature(0.5),
            )

    def test_batch_that_computes(self):
        method = curvopt.SubsampledCurvature(0.5, batch=lambda args: args[0][0] * 2)
        with pytest.raises(ValueError, match="without computing or slicing"):
            curvopt.quadratic_model(loss, *setting(), method, has_aux=True)

    def test_fields_in_the_wrong_order(self, unchecked):
        with pytest.raises(ValueError, match="batch must be a function.*`curvature=`"):
            curvopt.SubsampledCurvature(0.5, curvopt.ForwardCurvature())
