"""Declared fields: default, range and kind in one line, checked when an object is made."""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any, Literal, TYPE_CHECKING, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int, PyTree, Scalar, ScalarLike

from . import _compat
from ._checks import check_choice, check_count, check_instance, check_number, check_range
from ._describe import readable


Schedule: TypeAlias = Callable[[Int[Array, ""]], Any]

if TYPE_CHECKING:
    # The descriptor tells type checkers that a number goes in and an array comes out.
    class Number:
        def __get__(self, instance: Any, owner: Any) -> Array: ...
        def __set__(self, instance: Any, value: ScalarLike) -> None: ...

    class OptionalNumber:
        def __get__(self, instance: Any, owner: Any) -> Array | None: ...
        def __set__(self, instance: Any, value: ScalarLike | None) -> None: ...
else:
    Number: TypeAlias = Scalar
    OptionalNumber: TypeAlias = Scalar | None

_REQUIRED: Any = dataclasses.MISSING


def as_hyperparameter(x: Any) -> Any:
    """A number as a strongly typed floating array. As data, a new value does not recompile,
    and a grid of values can be vmapped over. (A weakly typed array would be retraced once a
    grid brings strongly typed ones.) Anything but a number is passed on to the check, which
    knows the name of the field."""
    if x is None or isinstance(x, complex) or not eqx.is_array_like(x):
        return x
    try:
        dtype = jnp.result_type(x)
        # Python numbers take jax's default dtype, but strongly typed.
        weak = isinstance(x, (bool, int, float))
        if weak or not jnp.issubdtype(dtype, jnp.floating):
            dtype = jnp.result_type(float)
        return jnp.asarray(x, dtype=dtype)
    except (TypeError, OverflowError):  # an array of text, an integer of 400 digits
        return x


def cast_hyperparameters(module: PyTree, dtype: Any) -> PyTree:
    """A module with its floating-point arrays in `dtype`.

    Hyper-parameters are strongly typed, so that a grid of values and a single one run the
    same program. But a strongly typed float64 must not promote float32 parameters, so
    inside a step hyper-parameters take the dtype of the scalars.
    """
    return jtu.tree_map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, module)


# A number, the name of another field, or a function of the object.
Bound: TypeAlias = ScalarLike | str | Callable[[Any], ScalarLike]


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """The range of a number."""

    above: Bound | None
    at_least: Bound | None
    below: Bound | None
    at_most: Bound | None
    optional: bool

    def check(self, name: str, value: Any, owner: Any) -> None:
        if value is None and self.optional:
            return
        check_number(name, value)
        ends = ("above", "at_least", "below", "at_most")
        bounds = {end: _bound(getattr(self, end), owner) for end in ends}
        check_range(name, value, **bounds)


def _bound(bound: Bound | None, owner: Any) -> Any:
    if isinstance(bound, str):
        other = getattr(owner, bound)
        # A field that is not a number fails its own check, under its own name.
        return other if hasattr(other, "dtype") and np.shape(other) == () else None
    return bound(owner) if callable(bound) else bound


@dataclasses.dataclass(frozen=True)
class _Count:
    """A static integer of at least 1."""

    def check(self, name: str, value: Any, owner: Any) -> None:
        del owner
        check_count(name, value)


@dataclasses.dataclass(frozen=True)
class _Schedule:
    """A function of the step count."""

    optional: bool

    def check(self, name: str, value: Any, owner: Any) -> None:
        del owner
        if value is None and self.optional:
            return
        wanted = f"{name} must be a function of the step count (any optax schedule)"
        if not callable(value):
            raise ValueError(f"{wanted} with peak 1, but it is {value!r}.")
        try:
            first: Any = value(jnp.array(0, jnp.int32))
        except TypeError as error:
            raise ValueError(f"{wanted}, but at step 0 it fails: {error}") from error
        check_range(f"{name}(0)", first, at_least=0)
        if not _compat.is_traced(first) and not np.isfinite(np.asarray(first)):
            raise ValueError(f"{wanted}, but at step 0 it is {first}.")


def hyperparameter(
    default: ScalarLike | None = _REQUIRED,
    *,
    above: Bound | None = None,
    at_least: Bound | None = None,
    below: Bound | None = None,
    at_most: Bound | None = None,
    optional: bool | None = None,
    kw_only: bool = False,
) -> Any:
    """Declare a numeric field of a strategy or problem, with its range.

    ```python
    class Momentum(curvopt.AbstractDirection):
        decay: curvopt.Number = curvopt.hyperparameter(0.9, at_least=0, below=1)
    ```

    The number becomes data, a strongly typed floating array: changing it does not
    recompile, and a grid of values can be vmapped over. Its range is checked when the
    object is made, unless it is traced. Study files read default and range from here.

    **Arguments:**

    - `default`: a number; without it the field is required.
    - `above`, `at_least`, `below`, `at_most`: the range. Each bound is a number, the name
        of another field, or a function of the object.
    - `optional`: whether it may be `None`; by default only if `default` is `None`.
    - `kw_only`: whether the field is keyword-only.

    **Returns:**

    A dataclass field, as `equinox.field` makes it.
    """
    optional = default is None if optional is None else optional
    declared = Hyperparameter(above, at_least, below, at_most, optional)
    return _field(declared, default, converter=as_hyperparameter, kw_only=kw_only)


def count(default: int = _REQUIRED) -> Any:
    """Declare a static integer of at least 1: part of the program, not data."""
    return _field(_Count(), default, static=True)


def schedule(default: Schedule | None = _REQUIRED) -> Any:
    """Declare a static [`curvopt.Schedule`][], a function of the step count. It may be
    `None` only if `default` is `None`."""
    return _field(_Schedule(default is None), default, static=True)


def _field(declared: Any, default: Any, **kwargs: Any) -> Any:
    given = {} if default is _REQUIRED else {"default": default}
    return eqx.field(metadata={"declared": declared}, **given, **kwargs)


def declared(field: dataclasses.Field) -> Any:
    """The declaration of a field, or `None`."""
    return field.metadata.get("declared")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # postponed annotations that name a function's local classes
        return {}


class Declared(eqx.Module):
    """A module that checks its fields when it is made, and prints their values.

    It checks declared numbers, counts and schedules; choices (fields annotated with a
    `Literal`); and Equinox modules (against the annotated class, alone or in a tuple).
    """

    def __repr__(self) -> str:
        return readable(self)

    # Equinox calls the `__check_init__` of every base: one in a subclass adds to this.
    def __check_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if (known := declared(field)) is not None:
                known.check(name, value, self)
            _check_annotation(name, value, _hints(type(self)).get(name))


def _check_annotation(name: str, value: Any, hint: Any) -> None:
    if typing.get_origin(hint) is Literal:
        check_choice(name, value, typing.get_args(hint))
    elif hint is bool:
        check_choice(name, value, (True, False))
    elif isinstance(hint, type) and issubclass(hint, eqx.Module):
        check_instance(name, value, hint)
    elif typing.get_origin(hint) is tuple and isinstance(value, tuple):
        for k, item in enumerate(value):
            _check_annotation(f"{name}[{k}]", item, typing.get_args(hint)[0])
