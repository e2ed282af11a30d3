"""Checks of what users pass in. Each error names the argument, its value and the remedy."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from . import _compat


def _described(path: Any, leaf: Any) -> str:
    where = jtu.keystr(path) or "it"
    if hasattr(leaf, "dtype"):
        return f"{where} has dtype {leaf.dtype} and shape {leaf.shape}"
    return f"{where} is {leaf!r} of type {type(leaf).__name__}"


def check_parameters(y: PyTree) -> None:
    """Raise unless the parameters are real floating-point arrays.

    **Raises:**

    `ValueError` naming the leaf and the remedy.
    """
    leaves = jtu.tree_leaves_with_path(y)
    for path, leaf in leaves:
        if not isinstance(leaf, (jax.Array, np.ndarray)):
            raise ValueError(
                "parameters must be arrays only, but "
                f"{_described(path, leaf)}. Partition first: `params, static = "
                "eqx.partition(model, eqx.is_inexact_array)`, and `eqx.combine` them "
                "in the loss."
            )
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise ValueError(
                f"parameters must be real, but {_described(path, leaf)}. Split it "
                "into its real and imaginary parts."
            )
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"parameters must be floating-point, but {_described(path, leaf)}. "
                "Convert it, or leave it out of the parameters: `params, static = "
                "eqx.partition(model, eqx.is_inexact_array)`."
            )
    if not leaves:
        raise ValueError(
            "there are no parameters: the pytree has no floating-point array. Check that "
            "the model was partitioned the right way round."
        )


def check_direction(u: PyTree, y: PyTree, name: str = "u") -> None:
    """Raise unless a vector has the structure and shapes of the parameters.

    **Raises:**

    `ValueError` naming the two structures, or the leaf that differs.
    """
    expected, got = jtu.tree_structure(y), jtu.tree_structure(u)
    if expected != got:
        raise ValueError(
            f"{name} must have the structure of the parameters, which is\n"
            f"  {expected}\nbut it is\n  {got}\nBuild it with `jax.tree.map` over the "
            "parameters or the gradient."
        )
    for (path, a), b in zip(jtu.tree_leaves_with_path(u), jtu.tree_leaves(y)):
        if jnp.shape(a) != b.shape or not jnp.issubdtype(jnp.result_type(a), jnp.floating):
            raise ValueError(
                f"{name} must match the parameters leaf by leaf, but "
                f"{_described(path, a)} where the parameter has dtype {b.dtype} and "
                f"shape {b.shape}."
            )


def check_state(name: str, new: Any, old: Any) -> Any:
    """A strategy's new state in the dtypes of the old one, because a loop needs a state of
    fixed types. (If parameters have several dtypes, hyper-parameters have the widest, and
    promote what they touch.)

    **Raises:**

    `ValueError` naming the class and the leaf whose structure, shape or kind changed.
    """
    if jtu.tree_structure(new) != jtu.tree_structure(old):
        raise ValueError(
            f"{name}.step must return a state with the structure that "
            f"`init` gave it, which is\n  {jtu.tree_structure(old)}\nbut it returned\n  "
            f"{jtu.tree_structure(new)}"
        )

    def kept(path: Any, n: Any, o: Any) -> Any:
        n = jnp.asarray(n)
        inexact = jnp.issubdtype(o.dtype, jnp.inexact)
        if n.shape != o.shape or (n.dtype != o.dtype and not inexact):
            raise ValueError(
                f"{name}.step must return a state with the shapes and dtypes that `init` "
                f"gave it, but state{jtu.keystr(path)} is {n.dtype}{list(n.shape)} where "
                f"it was {o.dtype}{list(o.shape)}."
            )
        return n.astype(o.dtype) if inexact else n

    return jtu.tree_map_with_path(kept, new, old)


# Of a float. jax raises an OverflowError where it makes an array of a larger integer.
_LARGEST = int(np.finfo(float).max)


def is_numeric(dtype: Any) -> bool:
    """Whether jax has arrays of a dtype: not of text, objects, dates or records."""
    # To NumPy bfloat16 and float8 are of kind V, as records are; jax knows them as numbers.
    return np.dtype(dtype).kind not in "OSUMmV" or jnp.issubdtype(dtype, jnp.number)


def check_number(name: str, x: Any) -> None:
    """Raise unless `x` is a single real number. Traced numbers pass.

    **Raises:**

    `ValueError` naming the field, its value and the remedy.
    """
    if callable(x):
        raise ValueError(
            f"{name} must be a number, but it is the function {x!r}. Pass a schedule, with "
            "peak 1, as `schedule=`; a rule without that field can be wrapped in "
            "strategies.Scheduled."
        )
    if not hasattr(x, "dtype") and not isinstance(x, (bool, int, float, complex)):
        what = "None" if x is None else f"{x!r} of type {type(x).__name__}"
        raise ValueError(f"{name} must be a number, but it is {what}.")
    dtype = getattr(x, "dtype", None)
    if dtype is not None and not is_numeric(dtype):
        raise ValueError(f"{name} must be a number, but its dtype is {dtype}: {x!r}.")
    if isinstance(x, int) and abs(x) > _LARGEST:
        raise ValueError(
            f"{name} must be below 1.8e308 in size, but it has {len(str(abs(x)))} digits."
        )
    if np.shape(x) != ():
        raise ValueError(
            f"{name} must be one number, but it has shape {np.shape(x)}. For a grid, use "
            "`curvopt.Family` in a study, or vmap over it: `eqx.filter_vmap`."
        )
    if jnp.issubdtype(jnp.result_type(x), jnp.complexfloating):
        raise ValueError(f"{name} must be a real number, but it is {x}.")


def check_range(
    name: str,
    x: Any,
    *,
    above: Any = None,
    at_least: Any = None,
    below: Any = None,
    at_most: Any = None,
) -> None:
    """Raise unless `x` is a single number within a range. Traced numbers pass, and traced
    bounds are ignored.

    **Raises:**

    `ValueError` naming the field, its value and the range.
    """
    check_number(name, x)
    if _compat.is_traced(x):
        return
    value = np.asarray(x)
    # Separately: every comparison with nan is false.
    wrong = np.isnan(value)
    bounds = []
    for bound, fails, word in (
        (above, lambda b: value <= b, "above"),
        (at_least, lambda b: value < b, "at least"),
        (below, lambda b: value >= b, "below"),
        (at_most, lambda b: value > b, "at most"),
    ):
        if bound is not None and not _compat.is_traced(bound):
            wrong = wrong | fails(bound)
            bounds.append(f"{word} {float(bound):g}")
    if np.any(wrong):
        range_ = " and ".join(bounds) or "a number"
        raise ValueError(f"{name} must be {range_}, but it is {value}.")


def check_count(name: str, n: Any, at_most: int = 2**31 - 1) -> int:
    """Raise unless a count is an integer from one to what int32 can hold."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"{name} must be an integer of at least 1, but it is {n!r}.")
    if n > at_most:
        digits = len(str(n))
        what = str(n) if digits <= 20 else f"a number of {digits} digits"
        raise ValueError(f"{name} must be at most {at_most:,}, but it is {what}.")
    return int(n)


def check_function(name: str, value: Any) -> Any:
    """Raise unless `value` is a function."""
    if not callable(value) or isinstance(value, type):
        raise ValueError(f"{name} must be a function, but it is {value!r}.")
    return value


def check_examples(name: str, given: PyTree) -> int:
    """Raise unless data are arrays of numbers with as many examples each on the first axis.

    **Returns:**

    How many examples there are.
    """
    leaves = jtu.tree_leaves_with_path(given)
    for path, x in leaves:
        where = f"{name}{jtu.keystr(path)}"
        if not isinstance(x, (jax.Array, np.ndarray)) or x.dtype.kind in "OSU":
            raise ValueError(
                f"{name} must be of arrays of numbers, but {where} is {type(x).__name__}. "
                "Convert it: `numpy.asarray(..., dtype=...)`."
            )
        if x.ndim == 0:
            raise ValueError(
                f"{name} must have the examples on the first axis of each array, but "
                f"{where} is one number."
            )
    sizes = {f"{name}{jtu.keystr(path)}": x.shape[0] for path, x in leaves}
    if len(set(sizes.values())) != 1 or not all(sizes.values()):
        listed = ", ".join(f"{n} in {where}" for where, n in sizes.items()) or "none"
        raise ValueError(
            f"{name} must have as many targets as inputs, at least one, on the first axis "
            f"of each array, but there are {listed}."
        )
    return leaves[0][1].shape[0]


def check_key(name: str, key: Any) -> None:
    """Refuse what is not one random key."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed or key.shape != ():
        shape = f"{key.dtype} of shape {key.shape}" if hasattr(key, "shape") else repr(key)
        raise ValueError(
            f"{name} must be one typed random key, `jax.random.key(0)`, but it is {shape}."
        )


_RESERVED = frozenset(
    "loss step_size gradient_norm slope curvature gradient_equivalents diverged_at "
    "stopped_at seconds compile_seconds execution finite_parameters steps_made strategy "
    "seed step evaluation_step direction line_search".split()
)


def is_reserved(name: str) -> bool:
    """Whether a name has a meaning in the dataset of a study."""
    return name in _RESERVED or name.startswith(("guard_", "evaluated_", "batch_"))


_REAL = (jnp.bool_, jnp.integer, jnp.floating)


def check_scalars(metrics: Any) -> None:
    """Raise unless metrics are a dictionary of scalars.

    **Arguments:**

    - `metrics`: a dictionary of numbers, of arrays or of their shapes.
    """
    if not isinstance(metrics, dict):
        raise ValueError(
            f"metrics must be a dictionary of scalars, but they are "
            f"{type(metrics).__name__}."
        )
    for name, x in metrics.items():
        if not isinstance(name, str):
            raise ValueError(f"metrics must have strings as names, but one is {name!r}.")
        if not name or "/" in name or name != name.strip() or not name.isprintable():
            raise ValueError(
                "metrics must have names that files can hold, without '/', line breaks "
                f"and blanks at their ends, but one is {name!r}."
            )
        shape = x.shape if hasattr(x, "shape") else np.shape(x)
        if shape != ():
            raise ValueError(f"metrics must be scalars, but {name!r} has shape {shape}.")
        try:
            dtype = jnp.result_type(x)
        except TypeError as error:
            raise ValueError(f"metrics must be numbers, but {name!r} is {x!r}.") from error
        if not any(jnp.issubdtype(dtype, kind) for kind in _REAL):
            raise ValueError(
                f"metrics must be real numbers, but {name!r} has dtype {dtype}."
            )


def check_model_state(state: Any) -> None:
    """Raise if a model's state contains Python numbers."""
    for path, leaf in jtu.tree_leaves_with_path(state):
        if isinstance(leaf, (bool, int, float, complex)):
            raise ValueError(
                "a model's state must consist of arrays, but "
                f"{_described(path, leaf)}. Make it an array: `jnp.asarray(...)`."
            )


def check_instance(name: str, value: Any, kind: type, remedy: str = "") -> None:
    """Raise unless `value` is an instance of a class; the class itself is not one.

    **Raises:**

    `ValueError` naming the field, its value and the class.
    """
    if not isinstance(value, kind):
        if isinstance(value, type) and issubclass(value, kind):
            remedy = f"It is the class itself: call it, {value.__name__}(...)."
        package = kind.__module__.partition(".")[0]
        raise ValueError(
            f"{name} must be an instance of {package}.{kind.__name__}, but it is "
            f"{value!r}. {remedy}".rstrip()
        )


def check_choice(name: str, value: Any, valid: tuple[str | bool, ...]) -> None:
    """Raise unless `value` is one of a few names, or of `True` and `False`."""
    if not isinstance(value, (str, bool)) or value not in valid:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, valid))}, but it is {value!r}."
        )
