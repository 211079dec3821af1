"""Traversal of all parts of an object."""

import dataclasses
import hashlib
from typing import Any

from .._parts import is_unordered, strip_wrappers
from ._texts import CODE as CODE, LARGE, all_parts, leaf_text, own_text


# A configuration of more objects holds data, which should be an array.
_MAX_OBJECTS = 100_000
# Compiler options, of a task or a trainer, belong to the environment of a run and not
# to its configuration. The trainer names those that count.
_OPTIONS = "compiler_options"


@dataclasses.dataclass(frozen=True)
class Node:
    """The description of an object: its own text, if any, and its parts by name."""

    text: str | None
    parts: tuple[tuple[str, "Node"], ...]
    digest: bytes
    size: int  # the number of objects in it


def is_large(node: Node) -> bool:
    """Return whether a description is so long that repetitions give its digest."""
    return node.size > LARGE


def joined(path: str, name: str) -> str:
    """Return the path of the part `name` of the object at `path`."""
    return f"{path}{name}" if name[0] in "[ " else f"{path}.{name}"


class Walk:
    """Describes objects and visits each part once, even if it is shared.

    - `execution`: a text for each field with the metadata `EXECUTION` met so far.
    """

    def __init__(self) -> None:
        self.execution = dict[str, str]()
        # References to the objects ensure that no other object gets the same id.
        self._nodes = dict[int, tuple[Any, Node]]()
        self._ancestors = list[int]()
        self._count = 0

    def node(self, value: Any, path: str, leave_out: tuple[str, ...] = ()) -> Node:
        """Describe `value`, which is at `path`.

        **Raises:** `ValueError` for more than 100,000 objects or too deep nesting.
        """
        value = strip_wrappers(value)
        if id(value) in self._nodes:
            return self._nodes[id(value)][1]
        if id(value) in self._ancestors:
            height = len(self._ancestors) - self._ancestors.index(id(value))
            return _make_node(f"what contains it, {height} above", ())
        self._count += 1
        if self._count > _MAX_OBJECTS:
            raise ValueError(
                f"the configuration of a run can hold at most {_MAX_OBJECTS:,} "
                f"objects, but got more at `{path.lstrip('.')[:200]}`. Store large "
                "tables as numpy or jax arrays, each of which counts as one object."
            )
        self._ancestors.append(id(value))
        try:
            node = self._describe(value, path, leave_out)
        except RecursionError as error:
            raise ValueError(
                "the configuration of a run is nested too deeply, at "
                f"`{path.lstrip('.')[:200]}`. Store it flat, as arrays."
            ) from error
        finally:
            self._ancestors.pop()
        self._nodes[id(value)] = value, node
        return node

    def _describe(self, value: Any, path: str, leave_out: tuple[str, ...]) -> Node:
        if (text := leaf_text(value)) is not None:
            return _make_node(text, ())
        text, parts = own_text(value), all_parts(value)
        if dataclasses.is_dataclass(value):
            leave_out += self._execution_fields(value, path)
        nodes = [
            (name, self.node(part, joined(path, name)))
            for name, part in parts
            if name not in leave_out and name.lstrip(".") != _OPTIONS
        ]
        if is_unordered(value):
            nodes.sort(key=lambda pair: pair[1].digest)
            nodes = [(f"[{i}]", node) for i, (_, node) in enumerate(nodes)]
        return _make_node(text, tuple(nodes))

    def _execution_fields(self, value: Any, path: str) -> tuple[str, ...]:
        """Record the fields with the metadata `EXECUTION` and return their names."""
        names = [
            field.name
            for field in dataclasses.fields(value)
            if field.metadata.get("execution")
        ]
        for name in names:
            where = joined(path, name).lstrip(".")
            self.execution[where] = repr(getattr(value, name, None))
        return tuple(names)


def _make_node(text: str | None, parts: tuple[tuple[str, Node], ...]) -> Node:
    digest = hashlib.sha256((text or "").encode())
    for name, part in parts:
        digest.update(f"\0{name}\0".encode())
        digest.update(part.digest)
    return Node(text, parts, digest.digest(), 1 + sum(p.size for _, p in parts))
