import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar, Shaped

from ._checks import check_count, check_examples, check_function
from ._curvature import tag_output
from ._describe import described
from ._host_data import HostData
from ._minibatch import minibatch_indices
from ._models import AbstractModel
from ._problem import AbstractProblem, Metrics, no_batch


# Arrays with the examples on the first axis.
Examples: TypeAlias = PyTree[Shaped[Array, "_ ..."]]

# From outputs and targets to numbers for each example.
Measure: TypeAlias = Callable[[Any, Any], Shaped[Array, "_ ..."]]


class SupervisedProblem(AbstractProblem):
    r"""The problem of fitting a model to a data set by a loss function: regression,
    classification and whatever else is learnt from examples.

    With inputs $x_i$, targets $t_i$ and the model's outputs $z_i = m(y, x_i)$, the loss of
    a mini-batch $B$ is

    $$f_B(y) = \frac1{|B|} \sum_{i \in B} L(z_i, t_i) + R(y).$$

    ```python
    problem = curvopt.SupervisedProblem(
        curvopt.EquinoxModel(lambda key: eqx.nn.MLP(784, 10, 64, 2, key=key)),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        train=(images, labels),  # float32[60000, 784], int32[60000]
        test=(test_images, test_labels),
        batch_size=128,
        metrics={"accuracy": lambda logits, labels: logits.argmax(-1) == labels},
    )
    curvopt.train(problem, solver, jax.random.key(0), steps=1000)
    ```

    The model is one of Equinox ([`curvopt.EquinoxModel`][]), of Flax linen
    ([`curvopt.LinenModel`][]), of Flax NNX ([`curvopt.NNXModel`][]) or of your own
    ([`curvopt.AbstractModel`][]). Its state (batch norm) and its randomness (dropout) are
    taken care of, it is trained in its training mode, and evaluated in inference. What it
    puts out is tagged for [`curvopt.GaussNewtonCurvature`][].

    The data are on the device once, for all seeds, in the dtype that they come in. They are
    shuffled anew in each epoch by [`curvopt.minibatch_indices`][]. Training data that are
    too large for that stay on the host: `train` is then a [`curvopt.HostData`][].

    It records the metrics at every step, on the step's batch, as `batch_accuracy` and so
    on. A run is evaluated by `train_loss` and `train_accuracy`, `validation_loss`, ...,
    `test_loss`, ..., without $R$.

    **Arguments:**

    - `model`: $m$, a [`curvopt.AbstractModel`][].
    - `loss`: $L$, from the outputs and the targets of `n` examples to the loss of each, an
        array of shape `(n,)`: `optax.softmax_cross_entropy_with_integer_labels`, for
        example. With further axes, such as `(n, length)`, their mean is taken too:
        `optax.squared_error`.
    - `train`: the training data, a pair of inputs and targets: arrays, or pytrees of
        arrays, of shapes `(examples, ...)`. Or a [`curvopt.HostData`][] of such batches.
    - `validation`, `test`: data on which it is evaluated as well, of the same kind.
    - `batch_size`: examples in a mini-batch; left out for data from the host.
    - `metrics`: by name, functions like `loss`, of which the means are recorded.
    - `penalty`: $R$, a function of the parameters, such as a weight decay.
    - `prepare`: from a batch of the data to inputs and targets, where the data are not that
        already: `lambda batch: (batch[0] / 255, batch[1])` keeps images as bytes on the
        device.
    - `evaluated`: on how many of the training examples it is evaluated, always the same
        ones, evenly spaced; default all. Of data from the host it is the examples that
        seed 0 begins with; default none.
    - `evaluation_batch_size`: how many examples are evaluated at once; default all. With
        fewer, they go through a loop, which needs less memory. Means are over all examples.

    **Raises:**

    `ValueError` if the data disagree on the number of examples, or those for evaluation
    with those for training on shapes and dtypes; if the batch is larger than the data; if a
    count is below 1. When it is trained: if `loss` or a metric does not return numbers for
    each example, or broadcasts the examples against each other.
    """

    model: AbstractModel
    loss_function: Measure
    data: Examples | HostData
    held_out: dict[str, Examples]
    metrics: dict[str, Measure]
    penalty: Callable[[PyTree[Array]], Scalar] | None
    prepare: Callable[[Any], Any] | None
    batch_size: int | None = eqx.field(static=True)
    evaluated: int = eqx.field(static=True)
    evaluation_batch_size: int | None = eqx.field(static=True)

    def __init__(
        self,
        model: AbstractModel,
        loss: Measure,
        train: Any,
        *,
        batch_size: int | None = None,
        validation: Any = None,
        test: Any = None,
        metrics: Mapping[str, Measure] | None = None,
        penalty: Callable[[PyTree[Array]], Scalar] | None = None,
        prepare: Callable[[Any], Any] | None = None,
        evaluated: int | None = None,
        evaluation_batch_size: int | None = None,
    ):
        _check_model(model)
        self.model = model
        self.loss_function = check_function("loss", loss)
        self.metrics = {}
        for name, metric in (metrics or {}).items():
            if name == "loss":
                raise ValueError("a metric cannot be called 'loss', which is recorded.")
            self.metrics[name] = check_function(f"metrics[{name!r}]", metric)
        self.penalty = None if penalty is None else check_function("penalty", penalty)
        self.prepare = None if prepare is None else check_function("prepare", prepare)
        held_out = {"validation": validation, "test": test}
        if evaluated is not None:
            check_count("evaluated", evaluated)
        if isinstance(train, HostData):
            like = _examples("a batch of train", train.first, prepare is None)
            if batch_size is not None:
                raise ValueError(
                    f"batch_size must be left out, but it is {batch_size}: data from the "
                    "host come in batches."
                )
            self.data, self.batch_size, self.evaluated = train, None, 0
            if evaluated is not None:
                held_out = {"train": _begin(train, evaluated), **held_out}
        else:
            self.data = like = _examples("train", train, prepare is None)
            size = _size(like)
            self.batch_size = check_count("batch_size", batch_size)
            if self.batch_size > size:
                raise ValueError(
                    "batch_size must be at most the number of training examples, but it is "
                    f"{batch_size} and there are {size}."
                )
            self.evaluated = min(size, evaluated or size)
        self.held_out = {
            name: _alike(_examples(name, given, prepare is None), like, name)
            for name, given in held_out.items()
            if given is not None
        }
        self.evaluation_batch_size = None
        if evaluation_batch_size is not None:
            count = check_count("evaluation_batch_size", evaluation_batch_size)
            self.evaluation_batch_size = count

    @property
    def steps_per_epoch(self) -> int:
        """How many batches go through the training data once."""
        if isinstance(self.data, HostData):
            return self.data.steps_per_epoch
        assert self.batch_size is not None
        return _size(self.data) // self.batch_size

    @property
    def host_data(self) -> HostData | None:
        return self.data if isinstance(self.data, HostData) else None

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], PyTree]:
        host = isinstance(self.data, HostData)
        examples = self.example_batch(key) if host else self.data
        inputs, _ = self._prepared(jtu.tree_map(lambda x: x[:1], examples))
        return self.model.init(key, inputs)

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> Examples:
        if isinstance(self.data, HostData) or self.batch_size is None:
            raise no_batch(self)
        chosen = minibatch_indices(
            key, count, size=_size(self.data), batch_size=self.batch_size
        )
        return jtu.tree_map(lambda x: x[chosen], self.data)

    def loss(
        self, params: PyTree[Array], args: tuple[Examples, PyTree, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[PyTree, Metrics]]:
        examples, model_state, key = args
        means, model_state = self._means(params, model_state, examples, key)
        loss = means.pop("loss")
        if self.penalty is not None:
            loss = loss + _scalar(self.penalty(params))
        return loss, (model_state, means)

    def evaluate(self, params: PyTree[Array], model_state: PyTree) -> Metrics:
        parts = self.held_out
        if not isinstance(self.data, HostData):
            parts = {"train": _spaced(self.data, self.evaluated), **parts}
        return {
            f"{part}_{name}": value
            for part, examples in parts.items()
            for name, value in self._in_pieces(params, model_state, examples).items()
        }

    def _prepared(self, examples: Examples) -> tuple[Any, Any]:
        """Inputs and targets."""
        pair = examples if self.prepare is None else self.prepare(examples)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(
                "prepare must return a pair of inputs and targets, but it returned "
                f"{described(pair)}."
            )
        return pair[0], pair[1]

    def _means(
        self,
        params: PyTree[Array],
        model_state: PyTree,
        examples: Examples,
        key: PRNGKeyArray | None,
    ) -> tuple[Metrics, PyTree]:
        """The means of loss and metrics, and the model's next state."""
        inputs, targets = self._prepared(examples)
        outputs, model_state = self.model.apply(params, model_state, inputs, key)
        outputs, size = tag_output(outputs), _size(examples)
        measures = {"loss": self.loss_function, **self.metrics}
        means = {
            name: jnp.mean(_measured(name, measure, outputs, targets, size))
            for name, measure in measures.items()
        }
        return means, model_state

    def _in_pieces(
        self, params: PyTree[Array], model_state: PyTree, examples: Examples
    ) -> Metrics:
        """The means in inference, `evaluation_batch_size` examples at a time."""
        size = _size(examples)
        mean_of = lambda x: self._means(params, model_state, x, None)[0]
        width = self.evaluation_batch_size or size
        if width >= size:
            return mean_of(examples)

        def piece(start: Int[Array, ""]) -> Metrics:
            at = lambda x: jax.lax.dynamic_slice_in_dim(x, start, width)
            return mean_of(jtu.tree_map(at, examples))

        pieces, rest = divmod(size, width)
        means = jax.lax.map(piece, width * jnp.arange(pieces))
        totals = jtu.tree_map(lambda x: width * x.sum(), means)
        if rest:
            last = mean_of(jtu.tree_map(lambda x: x[-rest:], examples))
            totals = jtu.tree_map(lambda x, z: x + rest * z, totals, last)
        return jtu.tree_map(lambda x: x / size, totals)


def _size(examples: PyTree) -> int:
    return jtu.tree_leaves(examples)[0].shape[0]


def _begin(data: HostData, count: int) -> Examples:
    """The first `count` examples of seed 0, at most an epoch."""
    if not data.repeatable:
        raise ValueError(
            f"evaluated must be left out, but it is {count}: a stream cannot go back. Give "
            "other examples as `validation`."
        )
    size = _size(data.first)
    batches = min(-(-count // size), data.steps_per_epoch)
    read = itertools.islice(data.batches(0, 0), batches)
    return jtu.tree_map(lambda *xs: jnp.asarray(np.concatenate(xs)[:count]), *read)


def _spaced(examples: Examples, count: int) -> Examples:
    """`count` of the examples, evenly spaced."""
    size = _size(examples)
    if count == size:
        return examples
    # In NumPy: the product can be beyond int32.
    chosen = np.arange(count, dtype=np.int64) * size // count
    return jtu.tree_map(lambda x: x[chosen], examples)


def _measured(
    name: str, measure: Measure, outputs: Any, targets: Any, size: int
) -> Shaped[Array, "_ ..."]:
    """The values of a loss or metric, with a row for each example. Raise if they have
    none, or if examples are broadcast against each other."""

    def of(count: int) -> Any:
        struct = lambda x: jax.ShapeDtypeStruct((count, *jnp.shape(x)[1:]), x.dtype)
        return jax.eval_shape(measure, *jtu.tree_map(struct, (outputs, targets)))

    def refused(how: str, remedy: str) -> ValueError:
        return ValueError(
            f"`{name}` must return numbers for each of the {size} examples, but of outputs "
            f"{described(outputs)} and targets {described(targets)} it returned {how}. "
            f"{remedy}"
        )

    values = measure(outputs, targets)
    shape = values.shape if hasattr(values, "shape") else None
    if not shape or shape[0] != size:
        remedy = "Leave the mean to the problem." if shape == () else ""
        raise refused(described(values), remedy)
    try:
        # One more example must only add a row: values of pairs get a column as well.
        alone = of(size + 1).shape == (size + 1, *shape[1:])
    except (TypeError, ValueError):
        alone = False
    if not alone:
        raise refused(
            f"{described(values)}, each example against the others",
            "Give outputs and targets the same shape, `targets[:, None]` for example.",
        )
    return values


def _scalar(value: Any) -> Scalar:
    value = jnp.asarray(value)
    if value.shape != ():
        raise ValueError(
            f"penalty must return one number, but it returned {described(value)}. Sum it "
            "over all parameters, as `optax.tree.norm(params, squared=True)` does."
        )
    return value


def _check_model(model: Any) -> None:
    if isinstance(model, AbstractModel):
        return
    if isinstance(model, eqx.Module):
        remedy = "Give the function that makes it: `curvopt.EquinoxModel(lambda key: ...)`."
    elif hasattr(model, "init") and hasattr(model, "apply"):
        remedy = "Wrap it: `curvopt.LinenModel(module)`."
    else:
        remedy = (
            "Give the function that makes it: `curvopt.EquinoxModel(lambda key: ...)` or "
            "`curvopt.NNXModel(lambda rngs: ...)`."
        )
    raise ValueError(
        f"model must be a curvopt.AbstractModel, but it is {type(model).__name__}. {remedy}"
    )


def _examples(name: str, given: Any, pair: bool) -> Examples:
    """Data as arrays of jax, with the examples on the first axis."""
    if pair and not (isinstance(given, (tuple, list)) and len(given) == 2):
        raise ValueError(
            f"{name} must be a pair of inputs and targets, but it is {described(given)}. "
            "Of other data, `prepare` makes a pair."
        )
    given = tuple(given) if pair else given
    check_examples(name, given)
    return jtu.tree_map(jnp.asarray, given)


def _alike(examples: Examples, train: Examples, name: str) -> Examples:
    """Examples of the kind of the training data; refuse others."""
    kinds = [
        [f"{x.dtype}{['n', *x.shape[1:]]}".replace("'", "") for x in jtu.tree_leaves(tree)]
        for tree in (examples, train)
    ]
    if kinds[0] != kinds[1] or jtu.tree_structure(examples) != jtu.tree_structure(train):
        raise ValueError(
            f"{name} must be like train, which is {', '.join(kinds[1])}, but it is "
            f"{', '.join(kinds[0])}."
        )
    return examples
