"""What several processes must have alike before they begin a run."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from .._check import no_type_check
from .._hosts._exchange import Message, gathered
from .._storage._fingerprint import (
    configuration,
    content_digest,
    environment,
    execution,
)
from .._trees import with_fields
from ._devices import devices_of
from ._host import asks_host
from .observers import Handle


# Parts of a trainer that are compared by themselves.
_APART = ("callbacks", "train_steps")
# The longest text of a value in a message.
_SHOWN = 120

type Texts = dict[str, dict[str, str]]


def check_alike(
    trainer: Any,
    about: Mapping[str, Any],
    place: str,
    exchange: Callable[..., list[Message]],
    waiting: Callable[[float], None],
) -> None:
    """Compare what determines a run with that of the other processes.

    **Arguments:**

    - `trainer`: the trainer.
    - `about`: what else determines the run, by name.
    - `place`: the place of the run in words.
    - `exchange`: exchanges a message, given by keywords, at a place.
    - `waiting`: as for `gathered`.

    **Raises:** `ValueError` that lists what differs, the same on every process.
    """
    texts = _texts(trainer, about)
    digests = {group: _digest(own) for group, own in texts.items()}
    rows = exchange(place, **digests)
    groups = [group for group in digests if len({row[group] for row in rows}) > 1]
    if not groups:
        return
    data = json.dumps({group: texts[group] for group in groups}).encode()
    sizes = [row["size"] for row in exchange("differences", size=len(data))]
    # Of few lengths, because each is compiled.
    length = 1 << max(sizes).bit_length()
    padded = np.frombuffer(data.ljust(length), np.uint8)
    found = [json.loads(row.tobytes()) for row in gathered(padded, waiting)]
    raise ValueError(
        "the processes of a run must begin it alike, but these differ: "
        f"{_differences(found)}. Run the same script, with the same arguments and the "
        "same versions, on each."
    )


def check_several(trainer: Any, streamed: bool) -> None:
    """Refuse what several processes cannot do together.

    **Arguments:**

    - `trainer`: the trainer.
    - `streamed`: whether its data are a stream of batches.

    **Raises:** `ValueError` with the remedy.
    """
    count = jax.process_count()
    if asks_host(trainer):
        raise ValueError(
            f"{trainer.task.display_name} runs on the host and cannot be evaluated by "
            f"the {count} processes of this program. Start it in one process, whose "
            'workers Ray puts on other machines: `backend="ray"`.'
        )
    if streamed:
        raise ValueError(
            f"`batches` cannot be streamed to the {count} processes of this program, "
            "because each of them would read its own. Pass `data` to `train`, or start "
            "one process."
        )


def check_devices(trainer: Any) -> None:
    """Refuse a trainer that cannot use all devices of the processes.

    **Raises:** `ValueError` with the remedy.
    """
    name, count = type(trainer).__name__, jax.process_count()
    found = devices_of(trainer)
    if found is None:
        raise ValueError(
            f"`{name}` has no `n_devices`, so it cannot divide its work among the "
            f"{count} processes of this program. Start it in one process; or train "
            f"several runs of it at once, `rx.Replicated({name}(...), n, "
            "n_devices=jax.device_count())`."
        )
    if found not in (1, jax.device_count()):
        raise ValueError(
            f"`n_devices` of `{name}` must be {jax.device_count()}, all devices of the "
            f"{count} processes, but got {found}. Pass `n_devices=jax.device_count()`."
        )
    each = [0] * count
    for device in jax.devices():
        each[device.process_index] += 1
    if found > 1 and len({*each}) > 1:
        raise ValueError(
            "each process must have as many devices as every other, but got "
            f"{by_process([str(n) for n in each])}. Hide some, with "
            "`CUDA_VISIBLE_DEVICES` for example."
        )


@no_type_check
def by_process(values: list[str]) -> str:
    """Return the values in words, each with the processes that have it."""
    groups = dict[str, list[str]]()
    for number, value in enumerate(values):
        groups.setdefault(value, []).append(str(number))
    # From where they differ, if they are long.
    start = 0
    if max(map(len, groups)) > _SHOWN:
        columns = zip(*groups, strict=False)
        start = next((i for i, column in enumerate(columns) if len({*column}) > 1), 0)
    return ", ".join(
        f"{'...' if start else ''}{value[start : start + _SHOWN]} on process "
        f"{' and '.join(numbers[:4])}"
        f"{f' and {len(numbers) - 4} more' if len(numbers) > 4 else ''}"
        for value, numbers in groups.items()
    )


def _texts(trainer: Any, about: Mapping[str, Any]) -> Texts:
    """Return what determines a run in groups of texts by path."""
    callbacks = [_without_handles(one) for one in trainer.callbacks]
    return {
        "run": {name: _text(value) for name, value in about.items()},
        "trainer": configuration(trainer, _APART) | execution(trainer, _APART),
        "callbacks": configuration(callbacks),
        "versions": _versions(),
    }


def _text(value: Any) -> str:
    texts = configuration(value)
    return texts["."] if [*texts] == ["."] else content_digest(value)


def _versions() -> dict[str, str]:
    found = environment()
    # Each host may write its own dumps.
    flags = found["XLA_FLAGS"].split()
    flags = [flag for flag in flags if not flag.startswith("--xla_dump")]
    kind = jax.local_devices()[0].device_kind
    return {**found, "XLA_FLAGS": " ".join(flags), "device": kind}


def _without_handles(callback: Any) -> Any:
    """Return a callback without what it holds on process 0 alone."""
    held = {k: None for k, v in vars(callback).items() if isinstance(v, Handle)}
    return with_fields(callback, **held)


def _digest(texts: dict[str, str]) -> str:
    text = json.dumps(texts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _differences(texts: list[Texts]) -> str:
    found = list[str]()
    for group in texts[0]:
        names = dict.fromkeys(name for text in texts for name in text[group])
        for name in names:
            values = [text[group].get(name, "nothing") for text in texts]
            if len({*values}) > 1:
                path = name.lstrip(".")
                path = f"callbacks{name}" if group == "callbacks" else path
                found.append(f"`{path}` ({by_process(values)})")
    more = len(found) - 5
    return "; ".join(found[:5]) + (f"; and {more} more" if more > 0 else "")
