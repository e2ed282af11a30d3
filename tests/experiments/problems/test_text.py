import dataclasses
import gzip

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from curvature_oracle import dense_hessian, random_like

import curvopt
import experiments.problems
from experiments.data import DataError, load_shakespeare, Text
from experiments.problems import (
    GRUCharacters,
    GRUNetwork,
    PROBLEMS,
    TransformerCharacters,
    TransformerNetwork,
)


host = pytest.mark.host

PLAY = "**HAMLET**  \r\nTo be, or not to be — that is the question:\r\n" * 4


@host
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("way", ["folder", "parent", "environment"])
def test_the_text_is_read_as_it_is(tmp_path, way, zipped, monkeypatch):
    folder = tmp_path / "shakespeare" if way == "parent" else tmp_path
    folder.mkdir(exist_ok=True)
    if zipped:
        (folder / "shakespeare.txt.gz").write_bytes(gzip.compress(PLAY.encode()))
    else:
        (folder / "shakespeare.txt").write_bytes(PLAY.encode())
    if way == "environment":
        monkeypatch.setenv("CURVOPT_DATA", str(tmp_path))
    text = load_shakespeare(None if way == "environment" else tmp_path)
    assert text.name == "shakespeare"
    assert text.alphabet == "".join(sorted(set(PLAY)))
    assert text.train.dtype == text.test.dtype == np.uint8
    read = ["".join(text.alphabet[k] for k in part) for part in (text.train, text.test)]
    assert "".join(read) == PLAY and len(read[1]) == len(PLAY) // 10


DAMAGED = {
    "not UTF-8": ("x" * 20 + "é").encode("latin-1"),
    "short": "nine “are”"[:9].encode(),
    "empty": b"",
    "symbols": "".join(map(chr, range(0x4E00, 0x4E00 + 257))).encode(),
    "truncated": gzip.compress(PLAY.encode())[:-20],
}
MESSAGES = {
    "not UTF-8": r"shakespeare\.txt is not a text in UTF-8: its byte 20 is e9\. Any text",
    "short": r"shakespeare\.txt is too short: it has 9 characters, .* 10 are needed",
    "empty": "is too short: it has 0 characters",
    "symbols": "has 257 different symbols, .* at most 256",
    "truncated": r"shakespeare\.txt cannot be read.*truncated",
}


@host
@pytest.mark.parametrize("damage", DAMAGED)
def test_what_is_no_text(tmp_path, damage):
    (tmp_path / "shakespeare.txt").write_bytes(DAMAGED[damage])
    with pytest.raises(DataError, match=MESSAGES[damage]):
        load_shakespeare(tmp_path)


@host
def test_the_most_symbols(tmp_path):
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 256)))
    (tmp_path / "shakespeare.txt").write_text(letters, "utf-8")
    text = load_shakespeare(tmp_path)
    assert [*text.train, *text.test] == list(range(256)) and text.alphabet == letters


@host
def test_a_missing_text(tmp_path, monkeypatch):
    monkeypatch.delenv("CURVOPT_DATA", raising=False)
    wanted = r"Any text in UTF-8 will do: put it as shakespeare\.txt .*--data-dir"
    with pytest.raises(DataError, match=f"nowhere to download shakespeare from. {wanted}"):
        load_shakespeare()
    with pytest.raises(DataError, match=rf"is not in .*no shakespeare\.txt or .*{wanted}"):
        load_shakespeare(tmp_path)
    with pytest.raises(DataError, match="data folder.*is not there"):
        load_shakespeare(tmp_path / "nowhere")


# Each character tells where it is: 40 windows of 5 for training, and 9 for testing.
PLACES = Text(
    "places",
    train=np.arange(203, dtype=np.uint8),
    test=np.arange(203, 249, dtype=np.uint8) + 1,
    alphabet="".join(map(chr, range(250))),
)


def test_an_epoch_goes_through_all_windows_once():
    problem = GRUCharacters(PLACES, width=2, length=4, batch_size=6)
    assert problem.steps_per_epoch == 6
    batch = lambda count: problem.batch(jr.key(0), count)
    batches = jax.jit(jax.vmap(batch))(jnp.arange(12))
    assert batches.shape == (12, 6, 5) and batches.dtype == jnp.uint8
    starts = np.asarray(batches[..., 0], int)
    np.testing.assert_array_equal(batches, starts[..., None] + np.arange(5))
    assert (starts % 5 == 0).all() and starts.max() < 200
    first, second = starts[:6].ravel(), starts[6:].ravel()
    assert len(set(first)) == len(set(second)) == 36, "none twice in an epoch"
    assert list(first) != list(second), "shuffled anew"


@pytest.mark.parametrize(
    "evaluated, train, test",
    [
        (10, 10, 9),
        pytest.param(None, 40, 9, marks=pytest.mark.slow),
        pytest.param(7, 7, 7, marks=pytest.mark.slow),
    ],
)
def test_what_is_evaluated(evaluated, train, test):
    problem = GRUCharacters(PLACES, width=2, length=4, batch_size=6, evaluated=evaluated)
    problem = problem.problem

    @jax.jit
    def watch():
        seen = []
        watched = lambda windows: seen.append(windows) or problem.prepare(windows)
        watching = eqx.tree_at(lambda p: p.prepare, problem, watched)
        return watching.evaluate(problem.init(jr.key(0))[0], None), seen

    metrics, seen = watch()
    assert set(metrics) == {f"{a}_{b}" for a in ("train", "test") for b in METRICS}
    for windows, number, of, start in zip(seen, (train, test), (40, 9), (0, 204)):
        expected = start + 5 * np.array([k * of // number for k in range(number)])
        np.testing.assert_array_equal(windows, expected[:, None] + np.arange(5))


METRICS = ("loss", "accuracy")
PATTERN = "so foul and fair a day I have not seen. " * 30
ALPHABET = "".join(sorted(set(PATTERN)))
LETTERS = np.array([ALPHABET.index(c) for c in PATTERN], np.uint8)
REPEATED = Text("repeated", train=LETTERS[:1000], test=LETTERS[1000:], alphabet=ALPHABET)

SIZES = {
    GRUCharacters: dict(width=16, length=12, batch_size=8, evaluated=20),
    TransformerCharacters: dict(
        width=16, layers=2, heads=4, length=12, batch_size=8, evaluated=20
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", SIZES)
def test_training(make):
    problem = make(REPEATED, **SIZES[make])
    assert problem.steps_per_epoch == 1000 // 13 // 8
    params, model_state = jax.jit(lambda key: problem.init(key))(jr.key(0))
    assert model_state is None
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}

    @jax.jit
    def step(params, count):
        args = problem.batch(jr.key(1), count), None, jr.key(2)
        (loss, (_, metrics)), grad = jax.value_and_grad(problem.loss, has_aux=True)(
            params, args
        )
        moved = jax.tree.map(lambda p, g: p - 0.5 * g, params, grad)
        return moved, loss, metrics, grad

    evaluate = jax.jit(lambda params: problem.evaluate(params, None))
    before = evaluate(params)
    assert set(before) == {f"{a}_{b}" for a in ("train", "test") for b in METRICS}
    losses = []
    for count in range(40):
        params, loss, metrics, grad = step(params, jnp.array(count))
        losses.append(float(loss))
        assert set(metrics) == {"accuracy"} and 0 <= metrics["accuracy"] <= 1
        for g in jax.tree.leaves(grad):
            assert jnp.isfinite(g).all() and jnp.any(g != 0)
    np.testing.assert_allclose(losses[0], np.log(len(ALPHABET)), atol=0.4)
    after = evaluate(params)
    # What is tested repeats what was trained on.
    assert np.mean(losses[-5:]) < losses[0] - 0.5
    assert after["test_loss"] < before["test_loss"] - 0.5
    assert after["test_accuracy"] > before["test_accuracy"] + 0.1


FEW = Text("few", train=LETTERS[:60] % 5, test=LETTERS[60:80] % 5, alphabet="abcde")
TINY = {
    "gru": (
        GRUCharacters(FEW, width=3, length=4, batch_size=3),
        lambda key: GRUNetwork(3, 5, key=key),
    ),
    "transformer": (
        TransformerCharacters(FEW, width=4, layers=1, heads=2, length=4, batch_size=3),
        lambda key: TransformerNetwork(4, 1, 2, 4, 5, key=key),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_curvature(name, x64):
    """Against the dense Hessian, and against the Gauss-Newton matrix of the cross-entropy,
    `diag(p) - p pᵀ` at the logits of each character."""
    problem, make = TINY[name]
    has_dtype = lambda x: hasattr(x, "dtype")
    _, static = eqx.partition(eqx.filter_eval_shape(make, jr.key(0)), has_dtype)
    params, _ = jax.jit(lambda key: problem.init(key))(jr.key(0))
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    windows = problem.problem.data[2:5]
    loss = lambda y, windows: problem.loss(y, (windows, None, jr.key(0)))[0]
    u = random_like(params)

    @jax.jit
    def run(y, u):
        logits = lambda y: jax.vmap(eqx.combine(y, static))(windows[:, :-1].astype(int))
        methods = curvopt.AdjointCurvature(), curvopt.GaussNewtonCurvature()
        models = [curvopt.quadratic_model(loss, y, windows, method) for method in methods]
        curvatures = [model.curvature(u) for model in models]
        return models[0].value, curvatures, jax.jvp(logits, (y,), (u,))

    value, (exact, gauss_newton), (z, dz) = run(params, u)
    row = jax.flatten_util.ravel_pytree(u)[0]
    hessian = dense_hessian(lambda y: loss(y, windows), params)
    np.testing.assert_allclose(exact, row @ hessian @ row, rtol=1e-10)

    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    squares = (p * dz**2).sum(axis=-1) - (p * dz).sum(axis=-1) ** 2
    np.testing.assert_allclose(gauss_newton, squares.mean(), rtol=1e-10)
    assert abs(exact - gauss_newton) > 1e-3 * gauss_newton, "the model is not linear"

    losses = -np.log(np.take_along_axis(p, np.asarray(windows[:, 1:, None], int), -1))
    np.testing.assert_allclose(value, losses.mean(), rtol=1e-12)


@pytest.mark.parametrize("name", TINY)
def test_no_character_is_predicted_from_those_after_it(name):
    _, make = TINY[name]
    first = jnp.array([0, 1, 2, 3])
    with_another_end = jnp.array([0, 1, 2, 4])
    both = jax.jit(jax.vmap(make(jr.key(0))))(jnp.stack([first, with_another_end]))
    assert both.shape == (2, 4, 5)
    np.testing.assert_array_equal(both[0, :3], both[1, :3])
    assert (both[0, 3] != both[1, 3]).all()


BAD = {
    "batch": (
        GRUCharacters,
        dict(batch_size=78),
        r"number of training examples, but it is 78 and there are 76",
    ),
    "test": (GRUCharacters, dict(length=200), "it is 200 and repeated has 200 test"),
    "length": (TransformerCharacters, dict(length=0), "length .* at least 1.* it is 0"),
    "evaluated": (GRUCharacters, dict(evaluated=0), "evaluated .* it is 0"),
    "width": (GRUCharacters, dict(width=1.5), "width .* it is 1.5"),
    "layers": (TransformerCharacters, dict(layers=0), "layers .* it is 0"),
    "heads": (
        TransformerCharacters,
        dict(heads=3),
        "width must be a multiple of heads, but it is 16 and heads is 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case, unchecked):
    make, arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make(REPEATED, **(SIZES[make] | {"batch_size": 2} | arguments))


@host
def test_names(monkeypatch, tmp_path):
    asked = []
    long = dataclasses.replace(REPEATED, train=np.tile(LETTERS, 2))
    load = lambda folder: asked.append(folder) or long
    monkeypatch.setattr(experiments.problems, "load_shakespeare", load)
    made = [
        type(PROBLEMS[f"shakespeare-{model}"](tmp_path)) for model in ("gru", "transformer")
    ]
    assert made == [GRUCharacters, TransformerCharacters] and asked == [tmp_path] * 2
