r"""Line searches as optax transformations, for optax training loops.

```python
tx = optax.chain(optax.adam(1.0), scale_by_curvature(0.5))  # was: optax.adam(3e-3)
updates, state = tx.update(grads, state, params, value_fn=loss, batch=batch)
```

They multiply the updates by the step size $\tau$. They expect updates that *descend*: put
them after the learning rate of an optimiser, which is then 1, or after `optax.scale(-1.0)`.
Only what must not be measured comes after them. A momentum before them is part of the
direction, and the step may vanish where it ascends. To size the step by the gradient alone,
and let the momentum accumulate steps, put them before the momentum:
`optax.chain(optax.scale(-1.0), scale_by_curvature(), optax.trace(0.9))`.
"""

import collections
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree, Scalar, ScalarLike

import curvopt

from .line_searches import CDAT, CurvatureRescaling


class ScaleByLineSearchState(NamedTuple):
    r"""The state of [`strategies.scale_by_line_search`][].

    The tools of optax and Flax can read it: `optax.tree.get(state, "step_size")`.

    **Attributes:**

    - `count`: the number of updates so far.
    - `line_search`: the arrays of the line search's own state; those shaped like the
        parameters are together, as a pytree, so that `optax.tree.map_params` finds them.
    - `step_size`: the last $\tau$.
    - `info`: the [`curvopt.StepInfo`][] of the last update: slope, curvature, guards.
    """

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    line_search: tuple[PyTree[Array], ...]
    step_size: Scalar
    info: Any


def scale_by_line_search(
    line_search: curvopt.AbstractLineSearch,
    *,
    curvature: curvopt.AbstractCurvatureMethod = curvopt.AdjointCurvature(),
) -> optax.GradientTransformationExtraArgs:
    r"""Scale updates by the step size of any line search.

    Its `update(updates, state, params, ...)` gets the loss in one of three ways. It ignores
    keyword arguments that it does not know.

    - `value_fn`: the loss as a function of the parameters, on the data of this step, as for
      optax's own line searches; it may return `(loss, aux)`. It receives the keyword
      arguments that it names (`value_fn(params, batch)` with `batch=batch`), except those
      of this list. Value and gradient are computed a second time.
    - `model`: the [`curvopt.QuadraticModel`][] of the loss at `params`. If value and
      gradient come from it, nothing is computed twice. It also works within
      `optax.masked`: the line is then that of the unmasked updates.
    - `curvature` and `grad`: the curvature, as a number or as a function of the direction,
      and the gradient, for rules that need nothing else but the loss, which is `value`.

    **Arguments:**

    - `line_search`: the line search. One whose state holds the parameters, such as
        `BarzilaiBorwein`, needs the memory for them.
    - `curvature`: the curvature method, used with `value_fn`.

    **Returns:**

    An `optax.GradientTransformationExtraArgs`, whose state is a
    [`strategies.ScaleByLineSearchState`][].

    **Raises:**

    `ValueError` without `params`, or without the loss. A runtime error if the first updates
    ascend (with momentum later ones may: `state.info.ascent`).
    """
    curvopt.check_instance("line_search", line_search, curvopt.AbstractLineSearch)
    curvopt.check_instance("curvature", curvature, curvopt.AbstractCurvatureMethod)

    method = curvature  # `update` has a keyword of that name

    def init(params: Any) -> Any:
        dtype = curvopt.scalar_dtype(params)
        own = line_search.checked_init(params)
        return ScaleByLineSearchState(
            count=jnp.array(0, jnp.int32),
            line_search=_parts(own, params),
            step_size=jnp.zeros((), dtype),
            info=_named(curvopt.StepInfo().astype(dtype)),
        )

    def scale(
        updates: Any, state: Any, params: Any, model: curvopt.QuadraticModel
    ) -> tuple[Any, Any]:
        state = jax.tree.map(jnp.asarray, state)  # a restored checkpoint has NumPy arrays
        line = curvopt.Line(params, updates, updates, model)
        # The state has only the parts, for the tools of optax: the structure is `init`'s.
        structure = jax.tree.structure(jax.eval_shape(line_search.checked_init, params))
        before = jax.tree.unflatten(structure, jax.tree.leaves(state.line_search))
        step_size, info, own = line_search.checked_step(line, state.count, before)
        # The check must be on a value that is used, or it is removed as dead code.
        step_size = eqx.error_if(
            step_size,
            (state.count == 0) & (line.slope > 0),
            "the updates ascend, but a line search scales updates that descend. Put it "
            "after the learning rate of an optimiser, optax.chain(optax.adam(1.0), "
            "scale_by_curvature()), or after optax.scale(-1.0).",
        )
        # 0 * inf is nan, but a step of zero must not move the parameters.
        scaled = jax.tree.map(
            lambda u: jnp.where(
                step_size == 0, 0, step_size * u.astype(step_size.dtype)
            ).astype(u.dtype),
            updates,
        )
        return scaled, ScaleByLineSearchState(
            state.count + 1, _parts(own, params), step_size, _named(info)
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value_fn: Callable | None = None,
        model: Any = None,
        curvature: Any = None,
        grad: PyTree | None = None,
        value: Any = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        if params is None:
            raise ValueError(
                "a line search needs the parameters: call tx.update(updates, state, "
                "params, ...)."
            )
        if value_fn is not None:
            _check_names(value_fn)
        if model is not None:
            curvopt.check_instance("model", model, curvopt.QuadraticModel)
            model = _unmasked(model, updates)
        elif value_fn is not None:
            model = _model_of(value_fn, updates, params, extra, method)
        elif curvature is not None and grad is not None:
            model = _model_from(value, grad, curvature)
        else:
            raise ValueError(
                "a line search needs the loss: call tx.update(updates, state, params, "
                "value_fn=loss), or pass model=curvopt.quadratic_model(loss, params), or "
                "curvature= and grad=."
            )
        return scale(updates, state, params, model)

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_curvature(
    learning_rate: ScalarLike | optax.Schedule = 0.5,
    *,
    average: ScalarLike = 0.0,
    curvature: curvopt.AbstractCurvatureMethod = curvopt.AdjointCurvature(),
) -> optax.GradientTransformationExtraArgs:
    r"""Scale updates $u$ by the curvature rescaling,
    $\tau = 2 \ell \max(-\langle g, u \rangle, 0) / |\langle u, H u \rangle|$.

    See [`strategies.CurvatureRescaling`][] for the rule, and
    [`strategies.scale_by_line_search`][] for the arguments of `update`, and for
    compositions such as `GrowthLimited(CurvatureRescaling(...))`.

    **Arguments:**

    - `learning_rate`: $\ell$, a number or an optax schedule of it.
    - `average`: the decay in $[0, 1)$ of the averages of slope and curvature. For
        mini-batches use 0.9.
    - `curvature`: the curvature method, used with `value_fn`.
    """
    if callable(learning_rate):
        rule = CurvatureRescaling(1.0, learning_rate, average=average)
    else:
        rule = CurvatureRescaling(learning_rate, average=average)
    return scale_by_line_search(rule, curvature=curvature)


def scale_by_cdat(
    sigma: ScalarLike = 2.0,
    *,
    average: ScalarLike = 0.9,
    epsilon: ScalarLike = 1e-6,
    curvature: curvopt.AbstractCurvatureMethod = curvopt.AdjointCurvature(),
) -> optax.GradientTransformationExtraArgs:
    """Scale updates by CDAT's step size.

    The arguments are those of [`strategies.CDAT`][] and
    [`strategies.scale_by_line_search`][]."""
    return scale_by_line_search(CDAT(sigma, average, epsilon), curvature=curvature)


def _parts(state: PyTree, params: PyTree) -> tuple[PyTree, ...]:
    """The arrays of a state, those shaped like the parameters together."""
    like = jax.tree.structure(params)
    is_part = lambda x: jax.tree.structure(x) == like
    return tuple(jax.tree.leaves(state, is_leaf=is_part))


# Cached: two types of the same name would be different tree structures.
@functools.cache
def _named_type(kind: type) -> Callable[..., Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    return collections.namedtuple(kind.__name__, names)  # pyright: ignore


def _named(module: Any) -> Any:
    """A module, and all modules in it, as named tuples."""
    if not isinstance(module, eqx.Module):
        return module
    names = [field.name for field in dataclasses.fields(module)]
    return _named_type(type(module))(*(_named(getattr(module, n)) for n in names))


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _unmasked(model: curvopt.QuadraticModel, updates: PyTree) -> curvopt.QuadraticModel:
    """The model on the parameters that `optax.masked` lets through; without a mask, the
    model itself."""
    if not any(map(_is_masked, jax.tree.leaves(updates, is_leaf=_is_masked))):
        return model
    is_leaf = lambda x: x is None or _is_masked(x)
    over = lambda fn, *trees: jax.tree.map(fn, *trees, is_leaf=is_leaf)
    nothing = lambda g: jax.tree.map(lambda _: None, g)
    fill = lambda u: over(lambda a, g: nothing(g) if _is_masked(a) else a, u, model.grad)

    def loss(y: PyTree) -> Scalar:
        raise ValueError(
            "within optax.masked a line search sees a part of the parameters, where the "
            "loss cannot be evaluated: use a rule that needs only slope and curvature, "
            "such as CurvatureRescaling."
        )

    return curvopt.QuadraticModel(
        value=model.value,
        grad=over(lambda a, g: a if _is_masked(a) else g, updates, model.grad),
        aux=model.aux,
        loss=loss,
        slope=lambda u: model.slope(fill(u)),
        curvature=lambda u: model.curvature(fill(u)),
        curvature_matrix=lambda us: model.curvature_matrix([fill(u) for u in us]),
        report=model.report,
    )


def _check_names(value_fn: Any) -> None:
    """Raise a `ValueError` if the loss names a keyword that the line search reads."""
    if not callable(value_fn):
        raise ValueError(
            "value_fn must be the loss as a function of the parameters, but it is "
            f"{value_fn!r}."
        )
    _, *others = inspect.signature(value_fn).parameters
    for name in ("value_fn", "model", "curvature", "grad", "value"):
        if name in others:
            raise ValueError(
                f"value_fn names a keyword `{name}`, which the line search reads itself, "
                "so that it would not reach the loss. Rename it in the loss and in the "
                "call of tx.update."
            )


def _model_of(
    value_fn: Callable,
    updates: PyTree,
    params: PyTree,
    extra: dict[str, Any],
    method: curvopt.AbstractCurvatureMethod,
) -> curvopt.QuadraticModel:
    """The model of a loss in the form that optax's line searches take."""
    if any(map(_is_masked, jax.tree.leaves(updates, is_leaf=_is_masked))):
        raise ValueError(
            "within optax.masked a line search sees a part of the parameters, where "
            "value_fn cannot be evaluated: pass model=curvopt.quadratic_model(loss, "
            "params) instead."
        )
    _, *others = inspect.signature(value_fn).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in others)
    named = {p.name for p in others}
    kwargs = {name: x for name, x in extra.items() if takes_all or name in named}

    def fn(params: PyTree, args: Any) -> tuple[Any, Any]:
        del args
        out = value_fn(params, **kwargs)
        return out if isinstance(out, tuple) else (out, None)

    return curvopt.quadratic_model(fn, params, None, method, has_aux=True)


def _model_from(
    value: ScalarLike | None,
    grad: PyTree,
    curvature: Callable[[PyTree], ScalarLike] | ScalarLike,
) -> curvopt.QuadraticModel:
    """The model made of a gradient and a curvature that were computed elsewhere."""

    def unknown(*args: Any) -> Any:
        del args
        raise ValueError(
            "this line search asks for more than the gradient and the curvature that it "
            "was given: pass value_fn= or model=."
        )

    return curvopt.QuadraticModel(
        value=value,
        grad=grad,
        loss=unknown,
        curvature=lambda u: jnp.asarray(curvature(u) if callable(curvature) else curvature),
        curvature_matrix=unknown,
    )
