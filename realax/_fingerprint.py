"""What a run depends on, as text that can be compared in another process."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import dataclasses
import enum
import functools
import hashlib
import importlib.metadata
import inspect
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np


_PACKAGES = ("realax", "jax", "jaxlib", "equinox", "optax", "evosax", "gymnax", "brax")


def configuration(value: Any, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """A text for everything that `value` consists of, by its path.

    Arrays count by their contents, functions by their qualified names, and objects of
    unknown kinds by their class and by what plain values they hold.

    **Arguments:**

    - `value`: a trainer, for example.
    - `leave_out`: names of fields of `value` that do not count.
    """
    if not leave_out:
        return dict(_walk(value, "", ()))
    found = {"class": _qualified(type(value))}
    for field, item in _fields(value):
        if field not in leave_out:
            found.update(_walk(item, f".{field}", ()))
    return found


def environment() -> dict[str, str]:
    """Versions, devices and settings that can change the bits of a result."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    devices = jax.devices()
    found["devices"] = f"{len(devices)} x {devices[0].device_kind}"
    found["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "")
    found["jax_enable_x64"] = str(jax.config.jax_enable_x64)
    found["matmul precision"] = str(jax.config.jax_default_matmul_precision)
    return found


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two fingerprints, in words."""
    none = "nothing"
    return [
        f"{name.lstrip('.')}: {before.get(name, none)} then, {now.get(name, none)} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _walk(value: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    if id(value) in above:
        return
    above = (*above, id(value))
    name = path or "."
    if eqx.is_array(value):
        yield name, _array(value)
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield name, repr(value)
    elif isinstance(value, enum.Enum):
        yield name, f"{_qualified(type(value))}.{value.name}"
    elif isinstance(value, pathlib.PurePath | range | slice):
        yield name, repr(value)
    elif isinstance(value, functools.partial):
        yield from _walk(value.func, path, above)
        yield from _walk(value.args, f"{path}.args", above)
        yield from _walk(value.keywords, f"{path}.keywords", above)
    elif callable(value) and hasattr(value, "__wrapped__"):  # `jit` and `filter_jit`
        inner: Any = value.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
        yield from _walk(inner, path, above)
    elif inspect.ismethod(value):
        yield name, _qualified(value)
        yield from _walk(value.__self__, f"{path}.__self__", above)
    elif callable(value) and hasattr(value, "__qualname__"):
        yield name, _qualified(value)
        if str(getattr(value, "__module__", "")).startswith("optax"):
            # An optimiser's settings are what its functions close over.
            cells = getattr(value, "__closure__", None) or ()
            for i, cell in enumerate(cells):
                yield from _walk(_contents(cell), f"{path}.{i}", above)
    elif isinstance(value, Mapping):
        for key, item in sorted(value.items(), key=lambda pair: str(pair[0])):
            yield from _walk(item, f"{path}[{key!r}]", above)
        yield f"{name}#", f"{type(value).__name__} of {len(value)}"
    elif isinstance(value, list | tuple | set | frozenset):
        items = value if isinstance(value, list | tuple) else sorted(value, key=str)
        for i, item in enumerate(items):
            yield from _walk(item, f"{path}[{i}]", above)
        yield f"{name}#", f"{type(value).__name__} of {len(value)}"
    else:
        yield f"{name}#", _qualified(type(value))
        for field, item in _fields(value):
            yield from _walk(item, f"{path}.{field}", above)


def _fields(value: Any) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        cached = {
            name
            for cls in type(value).__mro__
            for name, item in vars(cls).items()
            if isinstance(item, functools.cached_property)
        }
        names = sorted({*getattr(value, "__dict__", {})} - cached)
    return [(name, getattr(value, name)) for name in names if hasattr(value, name)]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _qualified(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{value.__qualname__}"


def _array(value: Any) -> str:
    keys = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    data = np.ascontiguousarray(jr.key_data(value) if keys else value)
    digest = hashlib.sha256(data.tobytes()).hexdigest()[:12]
    if data.size == 1 and not keys:
        return f"{data.dtype} {data.reshape(-1)[0]!s} ({digest})"
    return f"{value.dtype}{list(value.shape)} ({digest})"
