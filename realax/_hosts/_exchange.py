"""Messages between the processes of a run."""

import functools
import json
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.experimental import multihost_utils

from .._check import no_type_check
from .._types import Tree
from ._errors import lost_peer


# Each process contributes as many bytes to an exchange, so that one program serves all.
_BYTES = 2048
# How often a process that waits looks at its signals.
_SECONDS = 0.1
# A state is sent in parts of this size, so that it needs little further memory.
_PART = 2**26

type Message = dict[str, Any]


@no_type_check
def exchange(message: Message, waiting: Callable[[float], None]) -> list[Message]:
    """Return the messages of all processes, in their order.

    **Arguments:**

    - `message`: that of this process, of values that JSON can express in 2 KB.
    - `waiting`: called with the seconds so far while others let this process wait. What
        it raises ends the wait.

    **Raises:** `PeerError` if a process is gone.
    """
    text = json.dumps(message, ensure_ascii=False).encode().ljust(_BYTES)
    rows = gathered(np.frombuffer(text, np.uint8), waiting)
    return [json.loads(row.tobytes()) for row in rows]


@no_type_check
def gathered(row: np.ndarray, waiting: Callable[[float], None]) -> np.ndarray:
    """Return the bytes of all processes, one row for each.

    **Arguments:**

    - `row`: those of this process, as many as of every other.
    - `waiting`: as for `exchange`.

    **Raises:** `PeerError` if a process is gone.
    """
    return _patiently(lambda: _gather_rows(row), waiting)


@no_type_check
def _patiently(function: Callable[[], Any], waiting: Callable[[float], None]) -> Any:
    """Return the result of a function that waits for other processes."""
    results = list[Any]()

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    # In a thread, because jax blocks the caller, who could not act on signals.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    seconds = 0.0
    while True:
        thread.join(_SECONDS)
        if not thread.is_alive():
            break
        seconds += _SECONDS
        waiting(seconds)
    (result,) = results
    if isinstance(result, Exception):
        raise lost_peer(result) or result
    return result


@no_type_check
def sent_by_first(tree: Tree, waiting: Callable[[float], None]) -> Tree:
    """Return the tree of process 0 on all processes.

    **Arguments:**

    - `tree`: one of the same structure, shapes and dtypes on each.
    - `waiting`: as for `exchange`.

    **Raises:** `PeerError` if a process is gone.
    """
    leaves, treedef = jax.tree.flatten(tree)
    arrays = [_data(leaf) for leaf in leaves]
    whole = np.concatenate([np.zeros(0, np.uint8), *(_bytes(x) for x in arrays)])
    # As bytes: broadcasting adds up the numbers of all processes, of which those of the
    # others count as zero, and the sum of -0.0 and 0.0 is another number.
    for start in range(0, len(whole), _PART):
        part = whole[start : start + _PART]
        send = functools.partial(multihost_utils.broadcast_one_to_all, part)
        whole[start : start + _PART] = np.asarray(_patiently(send, waiting))
    found, start = list[Any](), 0
    for leaf, array in zip(leaves, arrays, strict=True):
        part = whole[start : start + array.nbytes]
        start += array.nbytes
        data = jax.device_put(part.view(array.dtype).reshape(array.shape))
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = jr.wrap_key_data(data, impl=jr.key_impl(leaf))
        found.append(data)
    return jax.tree.unflatten(treedef, found)


@no_type_check
def _data(leaf: Any) -> np.ndarray:
    keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jr.key_data(leaf) if keys else leaf)


@no_type_check
def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


@no_type_check
def _gather_rows(row: np.ndarray) -> np.ndarray:
    part, gather = _program()
    shape = (jax.process_count(), len(row))
    rows = jax.make_array_from_callback(shape, part, lambda _: row[None])
    return np.asarray(gather(rows).addressable_data(0))


@functools.cache
def _program() -> tuple[Any, Any]:
    """Return the place of the rows, and the program that gathers them."""
    first = dict[int, Any]()
    for device in jax.devices():
        first.setdefault(device.process_index, device)
    devices = np.asarray([first[i] for i in range(jax.process_count())])
    mesh = jax.sharding.Mesh(devices, ("processes",))
    place = functools.partial(jax.sharding.NamedSharding, mesh)
    part, whole = jax.sharding.PartitionSpec("processes"), jax.sharding.PartitionSpec()
    return place(part), jax.jit(lambda rows: rows, out_shardings=place(whole))
