"""A walk through everything that an object consists of."""

import dataclasses
import hashlib
from typing import Any

from .._parts import is_unordered, looked_through
from ._texts import CODE as CODE, LARGE, all_parts, leaf_text, own_text


# More objects than these are no configuration, but data that should be an array.
_MOST = 100_000
# How the programs of a task are compiled belongs to the environment of a run, which
# names the options of the trainer: they are an attribute of a task, not a field.
_OPTIONS = "compiler_options"


@dataclasses.dataclass(frozen=True)
class Node:
    """An object: its own text, if it has one, and its parts by name."""

    text: str | None
    parts: tuple[tuple[str, "Node"], ...]
    digest: bytes
    size: int  # in objects


def is_large(node: Node) -> bool:
    """Whether a description is long enough to be given once, and then by its digest."""
    return node.size > LARGE


def joined(path: str, name: str) -> str:
    return f"{path}{name}" if name[0] in "[ " else f"{path}.{name}"


class Walk:
    """A walk through an object, each of its parts once, however often it is shared."""

    def __init__(self) -> None:
        self.execution = dict[str, str]()
        # The objects themselves are kept, or another might get the id of one of them.
        self._known = dict[int, tuple[Any, Node]]()
        self._above = list[int]()
        self._count = 0

    def node(self, value: Any, path: str, leave_out: tuple[str, ...] = ()) -> Node:
        """The description of `value`, which is at `path`."""
        value = looked_through(value)
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._above:
            height = len(self._above) - self._above.index(id(value))
            return _made(f"what contains it, {height} above", ())
        self._count += 1
        if self._count > _MOST:
            raise ValueError(
                f"the configuration of a run can hold at most {_MOST:,} objects, but "
                f"there are more, at `{path.lstrip('.')[:200]}`. Hold large tables as "
                "numpy or jax arrays, which count as one."
            )
        self._above.append(id(value))
        try:
            node = self._new(value, path, leave_out)
        except RecursionError as error:
            raise ValueError(
                "the configuration of a run is nested too deeply, at "
                f"`{path.lstrip('.')[:200]}`. Hold it flat, as arrays."
            ) from error
        finally:
            self._above.pop()
        self._known[id(value)] = value, node
        return node

    def _new(self, value: Any, path: str, leave_out: tuple[str, ...]) -> Node:
        if (text := leaf_text(value)) is not None:
            return _made(text, ())
        text, parts = own_text(value), all_parts(value)
        if dataclasses.is_dataclass(value):
            leave_out += self._executed(value, path)
        nodes = [
            (name, self.node(part, joined(path, name)))
            for name, part in parts
            if name not in leave_out and name.lstrip(".") != _OPTIONS
        ]
        if is_unordered(value):
            nodes.sort(key=lambda pair: pair[1].digest)
            nodes = [(f"[{i}]", node) for i, (_, node) in enumerate(nodes)]
        return _made(text, tuple(nodes))

    def _executed(self, value: Any, path: str) -> tuple[str, ...]:
        """The names of the fields that say how a run is executed, kept apart."""
        names = [
            field.name
            for field in dataclasses.fields(value)
            if field.metadata.get("execution")
        ]
        for name in names:
            where = joined(path, name).lstrip(".")
            self.execution[where] = repr(getattr(value, name, None))
        return tuple(names)


def _made(text: str | None, parts: tuple[tuple[str, Node], ...]) -> Node:
    digest = hashlib.sha256((text or "").encode())
    for name, part in parts:
        digest.update(f"\0{name}\0".encode())
        digest.update(part.digest)
    return Node(text, parts, digest.digest(), 1 + sum(p.size for _, p in parts))
