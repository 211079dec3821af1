"""Sweeps over numbers of a trainer."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, SupportsIndex, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from .._arguments import arguments, instance, one_of, whole
from .._errors import describe
from .._types import Tree
from ..training import (
    AbstractState,
    AbstractTrainer,
    CallbacksLike,
    Logger,
)
from ..training._callbacks import as_callbacks
from ..training._checks import logger as a_logger, record as a_record
from ._lanes import LanesState
from ._places import Place, place_of
from ._replicated import Replicated, Swept


def _given(phrase: str, values: Any) -> Any:
    """Check that values are given by their places."""
    if not isinstance(values, Mapping) or not values:
        raise TypeError(
            f"{phrase} must map at least one place to its values, such as "
            f'`{{"learning_rate": [0.1, 0.01]}}`, but got {describe(values)}.'
        )
    for place in values:
        if not isinstance(place, str) and not callable(place):
            raise TypeError(
                f'{phrase} must name numbers by paths such as "learning_rate", or by '
                f"functions `(trainer) -> array`, but got {describe(place)}."
            )
    return values


@arguments(
    values=_given,
    trainer=instance(AbstractTrainer, 'rx.OptaxTrainer(100, "adam", start, loss)'),
    seeds=whole(),
    how=one_of("product", "zip"),
    n_devices=whole(),
    record=a_record,
    callbacks=as_callbacks,
    logger=a_logger,
)
def sweep[S: AbstractState, M, P](
    trainer: AbstractTrainer[S, M, P],
    values: Mapping[Place, ArrayLike | Sequence[Any]],
    *,
    seeds: SupportsIndex = 1,
    how: Literal["product", "zip"] = "product",
    n_devices: SupportsIndex = 1,
    record: Callable[[LanesState[S]], Tree] | None = None,
    callbacks: CallbacksLike = (),
    logger: Logger | None = None,
    progress_bar: bool = False,
) -> Replicated[S, M, P]:
    """Return a trainer that runs a trainer with many values of its numbers at once.

    ```python
    trainer = rx.sweep(trainer, {"learning_rate": jnp.logspace(-4, -1, 8)}, seeds=4)
    state, data = trainer.init_and_train(key)
    print(trainer.table(data))
    ```

    Each combination of values has the same seeds, so that values are compared in the
    same random circumstances. The last place varies fastest, and seeds still faster.

    **Arguments:**

    - `trainer`: the trainer.
    - `values`: the values, with a leading axis, of each number, by its place: the path
        of an attribute such as `"learning_rate"` or `"es_params.std_init"`, or a
        function `(trainer) -> array`. A number is any array of the trainer; what is
        static, such as a population size, is the same in all lanes.
    - `seeds`: the number of seeds for each combination.
    - `how`: `"product"` for all combinations of the values of different places, `"zip"`
        for the first of each, the second of each, and so on.
    - `n_devices`, `record`, `callbacks`, `logger`, `progress_bar`: as for `Replicated`.

    **Returns:** A `Replicated` with a lane for each combination and seed.

    **Raises:** `TypeError` or `ValueError` for a place that is unknown or static, and
    for values that do not fit it, before anything is compiled.
    """
    columns = [_column(trainer, place, given) for place, given in values.items()]
    lengths = {one.name: len(one.values) for one in columns}
    if len(lengths) < len(columns):
        raise ValueError(
            "`values` of `sweep` must name each number once, but got "
            f"{[one.name for one in columns]}."
        )
    if how == "zip" and len(set(lengths.values())) > 1:
        raise ValueError(
            '`values` of `sweep` must have equal lengths with `how="zip"`, but got '
            f"{lengths}."
        )
    ranges = [range(length) for length in lengths.values()]
    combined = zip(*ranges, strict=True) if how == "zip" else itertools.product(*ranges)
    rows = np.asarray(list(combined), int)
    count = cast(int, seeds)
    index = np.repeat(rows, count, axis=0)
    swept = tuple(
        Swept(one.name, one.place, one.values[index[:, i]])
        for i, one in enumerate(columns)
    )
    return Replicated(
        trainer,
        len(index),
        n_devices=n_devices,
        record=record,
        callbacks=callbacks,
        logger=logger,
        progress_bar=progress_bar,
        swept=swept,
        seeds=jnp.asarray(np.tile(np.arange(count), len(rows)), jnp.int32),
    )


def _column(trainer: Any, place: Place, given: Any) -> Swept:
    """Return the values of a place, after checks."""
    name, find = place_of("`values` of `sweep`", trainer, place)
    now = jnp.asarray(find(trainer))
    phrase = f"the values of {name!r} in `sweep`"
    try:
        values = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{phrase} must be numbers, but got {describe(given)}."
        ) from error
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{phrase} must be numbers, but got {describe(given)}.")
    if values.ndim == 0 or len(values) == 0 or values.shape[1:] != now.shape:
        raise ValueError(
            f"{phrase} must have a leading axis of values, each of the shape "
            f"{now.shape}, but got the shape {values.shape}."
        )
    with np.errstate(over="ignore"):  # of numbers that the message below names
        stored = jnp.asarray(values.astype(now.dtype))
    if not np.isfinite(values).all() or not np.isfinite(np.asarray(stored)).all():
        raise ValueError(
            f"{phrase} must be finite in {now.dtype}, but got {values.tolist()}."
        )
    if not jnp.issubdtype(now.dtype, jnp.inexact) and (stored != values).any():
        raise ValueError(
            f"{phrase} must be whole numbers, of {now.dtype}, but got "
            f"{values.tolist()}."
        )
    return Swept(name, find, stored)
