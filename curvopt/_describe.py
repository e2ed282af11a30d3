"""Objects as text: their values as one would write them, and field by field."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from . import _compat
from ._tree import pack_keys


def _is_number(x: Any) -> bool:
    return (
        isinstance(x, (jax.Array, np.ndarray, np.generic))
        and x.shape == ()
        and not _compat.is_traced(x)
        and jnp.issubdtype(x.dtype, jnp.number)
        and not jnp.issubdtype(x.dtype, jnp.complexfloating)
    )


def number(x: Any) -> float | int:
    """A scalar array as the shortest Python number that rounds to it: 0.003, not
    0.003000000026077032."""
    value = np.asarray(x)
    if value.dtype.kind in "iu":
        return int(value)
    # NumPy prints the shortest form in float16, float32 and float64, but not in bfloat16.
    return float(str(value if value.dtype.kind == "f" else value.astype(np.float32)))


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def readable(tree: PyTree) -> str:
    """A pytree as text, with scalars by value: `LearningRate(learning_rate=0.003)`. Larger
    arrays are shown by dtype and shape."""
    numbers = jtu.tree_map(lambda x: number(x) if _is_number(x) else x, tree)
    # A function wrapped by a type checker or by `jit` is still the same function.
    text = eqx.tree_pformat(numbers).replace("<wrapped function", "<function")
    return _without_addresses(text)


def described(tree: Any) -> str:
    """A pytree of arrays by dtype and shape."""
    if hasattr(tree, "shape") and hasattr(tree, "dtype"):
        return f"{tree.dtype}{list(tree.shape)}"
    if isinstance(tree, (tuple, list)):
        return f"({', '.join(map(described, tree))})"
    if isinstance(tree, dict):
        return f"{{{', '.join(f'{k}: {described(x)}' for k, x in tree.items())}}}"
    return type(tree).__name__


def digest(x: Any) -> str:
    """A digest of an array's dtype, shape and values."""
    array = np.ascontiguousarray(jax.device_get(x))
    found = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    found.update(array.tobytes())
    return found.hexdigest()[:16]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _walk(x: Any, path: str) -> Iterator[tuple[str, str]]:
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        yield path, type(x).__qualname__
        for field in dataclasses.fields(x):
            yield from _walk(getattr(x, field.name, None), _join(path, field.name))
    elif isinstance(x, Mapping):
        for key, value in x.items():
            yield from _walk(value, f"{path}[{key!r}]")
    elif isinstance(x, (list, tuple)):
        yield path, f"{type(x).__name__} of {len(x)}"
        for k, value in enumerate(x):
            yield from _walk(value, f"{path}[{k}]")
    elif _is_number(x):
        yield path, f"{number(x)!r} in {np.asarray(x).dtype}"
    elif isinstance(x, (jax.Array, np.ndarray)):
        yield path, f"{x.dtype}{list(x.shape)} of digest {digest(x)}"
    elif isinstance(x, functools.partial):
        yield from _walk(x.func, path)
        yield from _walk(x.args, _join(path, "args"))
        yield from _walk(x.keywords, path)
    elif callable(x) and hasattr(x, "__qualname__"):
        yield path, f"{x.__module__}.{x.__qualname__}"
    else:
        yield path, _without_addresses(repr(x))


def fields(tree: PyTree) -> dict[str, str]:
    """All parts of an object by path: numbers by value, larger arrays by a digest,
    functions by name."""
    return dict(_walk(pack_keys(tree), ""))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two flat mappings: lines such as `rate: 0.003 → 0.004`. What
    is `None` is as good as not there."""
    lines = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name, "not there"), now.get(name, "not there")
        if old != new and {old, new} != {"None", "not there"}:
            # A dtype is shown only where it is what differs.
            plain = [re.sub(r" in \w+$", "", str(x)) for x in (old, new)]
            shown = plain if plain[0] != plain[1] else [str(old), str(new)]
            lines.append(f"{name or 'type'}: {shown[0]} → {shown[1]}")
    return lines
