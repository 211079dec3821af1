"""Emitters by their names."""

from collections.abc import Callable, Mapping
from typing import Any

from ..._errors import closest, describe
from ._cma_emitter import CMAEmitter
from ._cma_mae import CMAMAEEmitter
from ._emitter import AbstractEmitter
from ._mega import CMAMEGAEmitter, OMGMEGAEmitter
from ._qdax import MISSING, QDaxEmitter, is_of_qdax
from ._several import MultiEmitter
from ._variation import GaussianEmitter, IsoLineEmitter


EMITTERS: Mapping[str, Callable[[], AbstractEmitter]] = {
    "iso_line": IsoLineEmitter,
    "gaussian": GaussianEmitter,
    "cma_me": CMAEmitter,
    "cma_me_opt": lambda: CMAEmitter("objective"),
    "cma_me_rnd": lambda: CMAEmitter("direction"),
    "cma_mae": CMAMAEEmitter,
    "omg_mega": OMGMEGAEmitter,
    "cma_mega": CMAMEGAEmitter,
}


def emitter_of(phrase: str, value: Any) -> AbstractEmitter:
    """Return the emitter that a value stands for.

    **Arguments:**

    - `phrase`: the argument's name in messages.
    - `value`: an emitter, one of qdax, a name, or a tuple of these.

    **Raises:** `ValueError` with the closest matches for an unknown name, `TypeError`
    for anything else.
    """
    if isinstance(value, AbstractEmitter):
        return value
    if isinstance(value, tuple | list) and value:
        return MultiEmitter(tuple(emitter_of(phrase, one) for one in value))
    if isinstance(value, str):
        if value in EMITTERS:
            return EMITTERS[value]()
        why = MISSING.get(value.lower().replace("-", "_").removesuffix("emitter"))
        if why is not None:
            raise ValueError(f"{phrase}: {value!r} is an emitter of qdax, but {why}")
        raise ValueError(
            f"{phrase}: there is no emitter {value!r}. {closest(value, EMITTERS)}"
        )
    if is_of_qdax(value):
        return QDaxEmitter(value)
    known = ", ".join(map(repr, EMITTERS))
    got = f"the class {value.__name__}" if isinstance(value, type) else describe(value)
    raise TypeError(
        f"{phrase} must be one of {known}, an emitter such as "
        f"`rx.CMAEmitter(emitters=15)`, one of qdax, or a tuple of these, but got "
        f"{got}."
    )
