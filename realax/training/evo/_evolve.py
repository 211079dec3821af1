"""Evolution in one call."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

from ..._arguments import Count, arguments, flag, function, keywords, one_key, whole
from ..._types import PRNGKeyArray, Tree
from .._callbacks import CallbacksLike
from .._checks import logger as a_logger, observers, trainable
from .._state import Record
from ..observers import Logger
from ._algorithm import Algorithm, algorithm
from ._es import EvosaxTrainer
from ._shaping import FitnessShaper, shaper
from ._state import ESMetrics, ESState


@overload
def evolve[P](
    prms: P,
    task: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    strategy: str | Algorithm = ...,
    popsize: Count = ...,
    steps: Count = ...,
    eval_reps: Count = ...,
    use_scan: Literal[True] = ...,
    fitness_shaper: FitnessShaper | None = ...,
    es_kws: Mapping[str, Any] | None = ...,
    es_params: Tree = ...,
    n_devices: Count = ...,
    data: Tree = ...,
    logger: Logger | None = ...,
    progress_bar: bool = ...,
    callbacks: CallbacksLike = ...,
) -> tuple[P, ESState[P], Record[ESMetrics]]: ...
@overload
def evolve[P](
    prms: P,
    task: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    strategy: str | Algorithm = ...,
    popsize: Count = ...,
    steps: Count = ...,
    eval_reps: Count = ...,
    use_scan: Literal[False],
    fitness_shaper: FitnessShaper | None = ...,
    es_kws: Mapping[str, Any] | None = ...,
    es_params: Tree = ...,
    n_devices: Count = ...,
    data: Tree = ...,
    logger: Logger | None = ...,
    progress_bar: bool = ...,
    callbacks: CallbacksLike = ...,
) -> tuple[P, ESState[P]]: ...
@arguments(
    prms=trainable,
    task=function("(params, key, data) -> (fitness, aux)"),
    key=one_key,
    strategy=algorithm,
    popsize=whole(),
    steps=whole(),
    eval_reps=whole(),
    use_scan=flag,
    fitness_shaper=shaper,
    es_kws=keywords,
    n_devices=whole(),
    logger=a_logger,
    progress_bar=flag,
    callbacks=observers,
)
def evolve[P](
    prms: P,
    task: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    strategy: str | Algorithm = "OpenES",
    popsize: Count = 64,
    steps: Count = 1024,
    eval_reps: Count = 1,
    use_scan: bool = True,
    fitness_shaper: FitnessShaper | None = None,
    es_kws: Mapping[str, Any] | None = None,
    es_params: Tree = None,
    n_devices: Count = 1,
    data: Tree = None,
    logger: Logger | None = None,
    progress_bar: bool = False,
    callbacks: CallbacksLike = (),
) -> tuple[P, ESState[P], Record[ESMetrics]] | tuple[P, ESState[P]]:
    """Evolve `prms` on a task, with an `EvosaxTrainer` made for the occasion.

    **Arguments:**

    - `prms`: where to start: any pytree, a whole model included.
    - `task`, `strategy`, `popsize`, `eval_reps`, `fitness_shaper`, `es_kws`,
        `es_params`, `n_devices`, `logger`, `progress_bar`, `callbacks`: as for
        `EvosaxTrainer`.
    - `key`: the run's key.
    - `steps`: how many generations.
    - `use_scan`: whether to keep every generation's metrics; without, memory does not
        grow with `steps`.
    - `data`: reaches the task unchanged.

    **Returns:** `(params, state, data)`, or without `use_scan` `(params, state)`;
    `params` is of the type of `prms`.
    """
    trainer = EvosaxTrainer(
        steps,
        strategy,
        task,
        prms,
        fitness_shaper,
        popsize,
        eval_reps,
        n_devices,
        es_kws=es_kws,
        es_params=es_params,
        callbacks=callbacks,
        logger=logger,
        progress_bar=progress_bar,
    )
    if use_scan:
        state, record = trainer.init_and_train(key, data)
        return trainer.params(state), state, record
    state = trainer.init_and_train_(key, data)
    return trainer.params(state), state
