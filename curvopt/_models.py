"""Models of any library as pure functions: parameters, state and randomness go in."""

import abc
import inspect
from collections.abc import Callable, Hashable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray, PyTree


class AbstractModel(eqx.Module):
    """A model as two pure functions, on batches: what [`curvopt.SupervisedProblem`][]
    trains.

    There is one for each library: [`curvopt.EquinoxModel`][], [`curvopt.LinenModel`][] and
    [`curvopt.NNXModel`][]. Another one takes a few lines:

    ```python
    class Line(curvopt.AbstractModel):
        def init(self, key, inputs):
            return {"w": jnp.zeros(inputs.shape[1]), "b": jnp.zeros(())}, None

        def apply(self, params, model_state, inputs, key):
            return inputs @ params["w"] + params["b"], model_state
    ```
    """

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray, inputs: PyTree[Array]) -> tuple[PyTree[Array], Any]:
        """The parameters and the model's state before the first step.

        **Arguments:**

        - `key`: the randomness of the initialisation.
        - `inputs`: one example, with the axis of the batch: models that find their sizes
            out from data read its shape.

        **Returns:**

        The parameters, a pytree of floating-point arrays only; and the model's state, a
        pytree of arrays, or `None`.
        """

    @abc.abstractmethod
    def apply(
        self,
        params: PyTree[Array],
        model_state: Any,
        inputs: PyTree[Array],
        key: PRNGKeyArray | None,
    ) -> tuple[PyTree[Array], Any]:
        """What the model puts out for a batch.

        **Arguments:**

        - `params`, `model_state`: as of `init`.
        - `inputs`: the batch, a pytree of arrays with the examples on the first axis.
        - `key`: the randomness of training (dropout). `None` in inference: then the model's
            state is read (running averages) and stays as it is.

        **Returns:**

        The outputs, arrays with the examples on the first axis, and the model's next state.
        """


def _check_maker(name: str, make: Any, argument: str, example: str) -> None:
    if not callable(make) or isinstance(make, eqx.Module):
        raise ValueError(
            f"{name} needs a function of `{argument}` that makes the model, `{example}`, "
            f"but it is {type(make).__name__}. The initialisation belongs to the seed of a "
            "run."
        )


class EquinoxModel(AbstractModel):
    """A model of Equinox: a module that is called on one example.

    ```python
    curvopt.EquinoxModel(lambda key: eqx.nn.MLP(784, 10, 64, 2, key=key))
    ```

    It is vmapped over the batch. Where the module's `__call__` takes a `key`, each example
    has its own, and `None` in inference, which is by `equinox.nn.inference_mode`. Where
    layers have a state (`equinox.nn.BatchNorm`), it is called as `model(x, state)` and
    returns `(output, state)`, as is usual in Equinox. The parameters are the floating-point
    arrays. All other arrays are part of the state, and are never trained.

    **Arguments:**

    - `make`: a function of `key` that makes the module; with or without
        `equinox.nn.make_with_state`. A class with its sizes will do:
        `functools.partial(eqx.nn.MLP, 784, 10, 64, 2)`.
    - `axis_name`: of the batch, for layers that look at all of it.

    **Raises:**

    `ValueError` if `make` is no function.
    """

    make: Callable[..., Any]
    axis_name: Hashable = eqx.field(static=True)

    def __init__(self, make: Callable[..., Any], axis_name: Hashable = "batch"):
        _check_maker("EquinoxModel", make, "key", "lambda key: eqx.nn.MLP(..., key=key)")
        self.make = make
        self.axis_name = axis_name

    def _parts(self, key: PRNGKeyArray) -> tuple[PyTree, tuple[eqx.nn.State, PyTree], Any]:
        """The parameters; the state of layers and the other arrays; all else."""
        made = self.make(key=key)
        if not (isinstance(made, tuple) and isinstance(made[-1], eqx.nn.State)):
            made = eqx.nn.make_with_state(lambda: made)()
        model, state = made
        params, rest = eqx.partition(model, eqx.is_inexact_array)
        buffers, static = eqx.partition(rest, eqx.is_array)
        return params, (state, buffers), static

    def init(self, key: PRNGKeyArray, inputs: PyTree[Array]) -> tuple[PyTree[Array], Any]:
        del inputs
        params, model_state, _ = self._parts(key)
        # Counters of Equinox are weakly typed, and would change their type with a step.
        strong = lambda x: jax.lax.convert_element_type(x, x.dtype)
        model_state = jtu.tree_map(strong, model_state)
        return params, model_state if jtu.tree_leaves(model_state) else None

    def merge(self, params: PyTree[Array], model_state: Any) -> tuple[Any, eqx.nn.State]:
        """The module with these parameters, and the state of its layers."""
        # All but the arrays is the same for any key; no array is built.
        _, none, static = eqx.filter_eval_shape(self._parts, jr.key(0))
        state, buffers = none if model_state is None else model_state
        # A state may be updated once only: each evaluation gets a copy.
        state = jtu.tree_map(lambda x: x, state)
        return eqx.combine(params, buffers, static), state

    def apply(
        self,
        params: PyTree[Array],
        model_state: Any,
        inputs: PyTree[Array],
        key: PRNGKeyArray | None,
    ) -> tuple[PyTree[Array], Any]:
        model, state = self.merge(params, model_state)
        if key is None:
            model = eqx.nn.inference_mode(model)
        has_state, has_key = bool(jtu.tree_leaves(state)), _takes(model, "key")

        def one(x: PyTree[Array], state: Any, key: Any) -> tuple[PyTree[Array], Any]:
            named = {"key": key} if has_key else {}
            return model(x, state, **named) if has_state else (model(x, **named), state)

        keys = None
        if key is not None and has_key:
            keys = jr.split(key, jtu.tree_leaves(inputs)[0].shape[0])
        # One state for all examples: layers with a state average over `axis_name`.
        outputs, state = jax.vmap(
            one,
            in_axes=(0, None, None if keys is None else 0),
            out_axes=(0, None),
            axis_name=self.axis_name,
        )(inputs, state, keys)
        if key is None or model_state is None:
            return outputs, model_state
        return outputs, (state, model_state[1])


def _takes(function: Callable, name: str) -> bool:
    """Whether a function takes an argument of this name."""
    parameters = inspect.signature(function).parameters.values()
    return any(x.name == name or x.kind is x.VAR_KEYWORD for x in parameters)


# How modules of Flax are told whether they are trained.
_FLAGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


def _mode(call: Callable, training: bool) -> dict[str, bool]:
    """The keyword arguments by which a module is told whether it is trained."""
    parameters = inspect.signature(call).parameters
    return {k: x == training for k, x in _FLAGS.items() if k in parameters}


class LinenModel(AbstractModel):
    """A model of Flax linen: a module that is called on a batch.

    ```python
    curvopt.LinenModel(MyNetwork(features=64))
    ```

    Its collection `"params"` are the parameters; all others that `init` returns
    (`"batch_stats"`) are the model's state. Each stream of randomness (dropout) is drawn
    from the step's key. Where `__call__` takes `train`, `training`, `is_training`,
    `deterministic` or `use_running_average`, it is told whether it is trained.

    **Arguments:**

    - `module`: the module.

    **Raises:**

    `ValueError` if it has no functions `init` and `apply`.
    """

    module: Any

    def __init__(self, module: Any):
        if isinstance(module, type) or not all(
            callable(getattr(module, name, None)) for name in ("init", "apply")
        ):
            raise ValueError(
                "LinenModel needs a module with functions `init` and `apply`, "
                f"`MyNetwork(features=64)`, but it is {module!r}."
            )
        self.module = module

    def init(self, key: PRNGKeyArray, inputs: PyTree[Array]) -> tuple[PyTree[Array], Any]:
        training = _mode(self.module.__call__, True)
        state = dict(self.module.init(key, inputs, **training))
        params = state.pop("params", {})
        return params, state or None

    def merge(self, params: PyTree[Array], model_state: Any) -> dict[str, Any]:
        """The module's variables: `module.apply(variables, inputs)`."""
        return {"params": params, **(model_state or {})}

    def apply(
        self,
        params: PyTree[Array],
        model_state: Any,
        inputs: PyTree[Array],
        key: PRNGKeyArray | None,
    ) -> tuple[PyTree[Array], Any]:
        variables = self.merge(params, model_state)
        mode = _mode(self.module.__call__, key is not None)
        if key is None:
            return self.module.apply(variables, inputs, **mode), model_state
        outputs, state = self.module.apply(
            variables,
            inputs,
            # The stream that stands in for those that are not given.
            rngs={"params": key},
            mutable=list(model_state or {}),
            **mode,
        )
        return outputs, dict(state) or None


class NNXModel(AbstractModel):
    """A model of Flax NNX: a module that is called on a batch.

    ```python
    curvopt.NNXModel(lambda rngs: MyNetwork(features=64, rngs=rngs))
    ```

    Its `nnx.Param`s are the parameters, as nested dictionaries; its other variables
    (`nnx.BatchStat`) are the model's state. Its streams of randomness (dropout) begin anew
    in each step, from the step's key. It is told whether it is trained by `train()` and
    `eval()`, and by arguments of `__call__` as in [`curvopt.LinenModel`][].

    **Arguments:**

    - `make`: a function of `rngs` that makes the module.

    **Raises:**

    `ValueError` if `make` is no function.
    """

    make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]):
        _check_maker("NNXModel", make, "rngs", "lambda rngs: MyNetwork(rngs=rngs)")
        self.make = make

    def _parts(self, key: PRNGKeyArray) -> tuple[Any, Any, Any, Any]:
        """Definition, parameters, streams of randomness, all other variables."""
        from flax import nnx  # only those who have a model of it need it

        model = self.make(rngs=nnx.Rngs(key))
        definition, params, streams, rest = nnx.split(model, nnx.Param, nnx.RngState, ...)
        return definition, params, streams, rest

    def init(self, key: PRNGKeyArray, inputs: PyTree[Array]) -> tuple[PyTree[Array], Any]:
        from flax import nnx

        del inputs
        _, params, _, rest = self._parts(key)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(rest) or None

    def merge(
        self, params: PyTree[Array], model_state: Any, key: PRNGKeyArray | None = None
    ) -> Any:
        """The module with these parameters and this state; its randomness from `key`."""
        from flax import nnx

        key = jr.key(0) if key is None else key
        abstract = nnx.eval_shape(lambda: nnx.merge(*self._parts(jr.key(0))))
        definition, *states = nnx.split(abstract, nnx.Param, nnx.RngState, ...)
        values = params, _streams(nnx.to_pure_dict(states[1]), key), model_state or {}
        for state, value in zip(states, values):
            nnx.replace_by_pure_dict(state, value)
        return nnx.merge(definition, *states)

    def apply(
        self,
        params: PyTree[Array],
        model_state: Any,
        inputs: PyTree[Array],
        key: PRNGKeyArray | None,
    ) -> tuple[PyTree[Array], Any]:
        from flax import nnx

        model = self.merge(params, model_state, key)
        model.eval() if key is None else model.train()
        outputs = model(inputs, **_mode(model.__call__, key is not None))
        if key is None:
            return outputs, model_state
        _, _, _, rest = nnx.split(model, nnx.Param, nnx.RngState, ...)
        return outputs, nnx.to_pure_dict(rest) or None


def _streams(abstract: PyTree, key: PRNGKeyArray) -> PyTree[Array]:
    """Streams of randomness at their beginning: keys, each its own, and counts of zero."""
    leaves, structure = jtu.tree_flatten(abstract)
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    values = [
        jr.split(jr.fold_in(key, k), x.shape) if is_key(x) else jnp.zeros(x.shape, x.dtype)
        for k, x in enumerate(leaves)
    ]
    return jtu.tree_unflatten(structure, values)
