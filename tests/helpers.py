"""Functions that several tests share."""

import contextlib
import glob
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_leaves_with_path

import realax as rx
from realax.training._callbacks import plain

from .conftest import SETTINGS


ROOT = pathlib.Path(__file__).parent.parent


def rastrigin(x: Any, key: Any, data: Any = None) -> Any:
    """Return the value of a bowl with many minima; the least, 0, is at 0.

    Source: L. A. Rastrigin (1974).
    """
    del key, data
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10), None


def same(a: Any, b: Any) -> bool:
    """Return whether two trees are equal bit for bit, NaNs included.

    Prints where they differ, which pytest shows beside a test that fails.
    """
    one, other = jax.tree.structure(a), jax.tree.structure(b)
    if one != other:
        print(f"The structures differ: {one} and {other}")
        return False
    paths = [jax.tree_util.keystr(path) for path, _ in tree_leaves_with_path(a)]
    differ = [
        f"{path}: {x} and {y}"
        for path, x, y in zip(paths, _arrays(a), _arrays(b), strict=True)
        if x.dtype != y.dtype or not np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
    ]
    print(*differ, sep="\n")
    return not differ


def close(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    """Return whether two trees are equal within float tolerance."""
    return all(
        x.shape == y.shape and np.allclose(x, y, rtol, atol, equal_nan=True)
        for x, y in zip(_arrays(a), _arrays(b), strict=True)
    )


def run_of(trainer: Any, state: Any) -> rx.Run:
    """Return the run that `trainer.train(state, key)` describes to its observers."""
    begin = int(state.step)
    end = begin + trainer.train_steps
    return rx.Run(trainer, plain(trainer), jax.random.key(0), begin, end)


def _arrays(tree: Any) -> list[Any]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    keys = jax.dtypes.prng_key
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, keys) else x)
        for x in leaves
    ]


_listening = list[list[str]]()


def _listen(event: str, seconds: float, **kws: Any) -> None:
    del seconds
    if event.endswith("jaxpr_to_mlir_module_duration"):
        for names in _listening:
            names.append(str(kws.get("fun_name")))


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def compilations() -> Generator[list[str]]:
    """Yield the names of the functions lowered inside, cached on disk or not."""
    names: list[str] = []
    _listening.append(names)
    try:
        yield names
    finally:
        _listening[:] = [one for one in _listening if one is not names]


def environment(**more: str) -> dict[str, str]:
    """Environment variables for a process that shares the tests' compiled programs."""
    cache = {name.upper(): str(value) for name, value in SETTINGS.items()}
    return {**os.environ, **cache, **more}


def python(*arguments: str, timeout: float = 300, **kws: Any) -> Any:
    """Run Python in a process of its own, from the repository's root."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=kws.pop("cwd", ROOT),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        **kws,
    )


def wandb_history(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The rows in the file of an offline run of wandb.

    The format is LevelDB's log: blocks of 32 KiB, in them records with a checksum, a
    length and a kind (whole, first, middle, last), after a header of 7 bytes.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = glob.glob(str(folder / "wandb" / "offline-run-*" / "*.wandb"))
    data, rows, place, parts = pathlib.Path(path).read_bytes(), [], 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size = int.from_bytes(data[place + 4 : place + 6], "little")
        kind = data[place + 6]
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            record, parts = Record.FromString(parts), b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append(
                    {
                        item.key or ".".join(item.nested_key): json.loads(
                            item.value_json
                        )
                        for item in items
                    }
                )
    return rows
