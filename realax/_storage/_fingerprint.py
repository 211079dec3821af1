"""The configuration of a run as texts that other processes can compare."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from ._walk import CODE, Node, Walk, is_large, joined


_PACKAGES = ("realax", "jax", "jaxlib", "equinox", "optax", "evosax", "gymnax", "brax")


def configuration(value: Any, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Describe each part of `value` by a text under its path.

    Arrays are compared by contents, modules by name, and functions by name, closure and
    defaults. Functions of the user are also compared by their code and the global
    variables that it reads. Other objects are compared by class and contents. Fields
    with the metadata `EXECUTION` are left out.

    **Arguments:**

    - `value`: a trainer, for example.
    - `leave_out`: names of fields of `value` to leave out.

    **Returns:** The texts by path.

    **Raises:** `ValueError` for more than 100,000 objects or too deep nesting, with the
    path.
    """
    return dict(_describe(value, leave_out)[0])


def execution(value: Any, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Describe each field of `value` with the metadata `EXECUTION`, by its path."""
    return _describe(value, leave_out)[1]


def content_digest(value: Any) -> str:
    """Return a short digest of all parts of `value`."""
    return Walk().node(value, "").digest.hex()[:12]


def environment() -> dict[str, str]:
    """Return the versions, devices and settings that can change bits of a result."""
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
    """Return the differences between two fingerprints, in words."""
    none = "nothing"
    return [
        f"{_shown(name)}: {before.get(name, none)} then, {now.get(name, none)} now"
        for name in (*now, *(name for name in before if name not in now))
        if before.get(name) != now.get(name)
        and not _from_other_pythons(name, before.get(name), now.get(name))
    ]


def _shown(name: str) -> str:
    return "class" if name == "#" else name.lstrip(".")


def _from_other_pythons(name: str, before: str | None, now: str | None) -> bool:
    if not name.endswith(CODE) or before is None or now is None:
        return False
    return before.split()[0] != now.split()[0]


def _describe(
    value: Any, leave_out: tuple[str, ...]
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    walk = Walk()
    node = walk.node(value, "", leave_out)
    return list(_texts(node, "", set())), walk.execution


def _texts(node: Node, path: str, seen: set[bytes]) -> Iterator[tuple[str, str]]:
    if is_large(node):
        if node.digest in seen:
            yield path or ".", f"as elsewhere ({node.digest.hex()[:12]})"
            return
        seen.add(node.digest)
    if node.text is not None:
        yield (f"{path}#" if node.parts else path or "."), node.text
    for name, part in node.parts:
        yield from _texts(part, joined(path, name), seen)
