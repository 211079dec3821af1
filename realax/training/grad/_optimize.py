"""Gradient training in one call."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import equinox as eqx
from jaxtyping import Array

from ..._arguments import Count, arguments, flag, function, keywords, one_key, whole
from ..._template import Template
from ..._types import PRNGKeyArray, Tree
from .._callbacks import CallbacksLike
from .._checks import logger as a_logger, observers, trainable
from .._optimizer import Optimizer, optimizer as an_optimizer
from .._state import Record
from ..observers import Logger
from ._optax import LearningRate, OptaxTrainer, checked_rate
from ._state import GradMetrics, GradState


@overload
def optimize[P](
    prms: P,
    loss_fn: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    optimizer: str | Optimizer = ...,
    learning_rate: LearningRate | None = ...,
    opt_kws: Mapping[str, Any] | None = ...,
    steps: Count = ...,
    use_scan: Literal[True] = ...,
    data: Tree = ...,
    logger: Logger | None = ...,
    progress_bar: bool = ...,
    callbacks: CallbacksLike = ...,
) -> tuple[P, GradState[P], Record[GradMetrics]]: ...
@overload
def optimize[P](
    prms: P,
    loss_fn: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    optimizer: str | Optimizer = ...,
    learning_rate: LearningRate | None = ...,
    opt_kws: Mapping[str, Any] | None = ...,
    steps: Count = ...,
    use_scan: Literal[False],
    data: Tree = ...,
    logger: Logger | None = ...,
    progress_bar: bool = ...,
    callbacks: CallbacksLike = ...,
) -> tuple[P, GradState[P]]: ...
@arguments(
    prms=trainable,
    loss_fn=function("(params, key, data) -> (loss, aux)"),
    key=one_key,
    optimizer=an_optimizer,
    learning_rate=checked_rate,
    opt_kws=keywords,
    steps=whole(),
    use_scan=flag,
    logger=a_logger,
    progress_bar=flag,
    callbacks=observers,
)
def optimize[P](
    prms: P,
    loss_fn: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    optimizer: str | Optimizer = "adamw",
    learning_rate: LearningRate | None = None,
    opt_kws: Mapping[str, Any] | None = None,
    steps: Count = 1024,
    use_scan: bool = True,
    data: Tree = None,
    logger: Logger | None = None,
    progress_bar: bool = False,
    callbacks: CallbacksLike = (),
) -> tuple[P, GradState[P], Record[GradMetrics]] | tuple[P, GradState[P]]:
    """Train `prms` by gradient, with an `OptaxTrainer` made for the occasion.

    **Arguments:**

    - `prms`: where to start: any pytree, a whole model included.
    - `loss_fn`, `optimizer`, `learning_rate`, `opt_kws`, `logger`, `progress_bar`,
        `callbacks`: as for `OptaxTrainer`.
    - `key`: the run's key.
    - `steps`: how many steps.
    - `use_scan`: whether to keep every step's metrics; without, memory does not grow
        with `steps`.
    - `data`: reaches the loss unchanged.

    **Returns:** `(params, state, data)`, or without `use_scan` `(params, state)`;
    `params` is of the type of `prms`.
    """
    trainer = OptaxTrainer(
        steps,
        optimizer,
        _Given(prms),
        loss_fn,
        learning_rate,
        opt_kws=opt_kws,
        callbacks=callbacks,
        logger=logger,
        progress_bar=progress_bar,
    )
    if use_scan:
        state, record = trainer.init_and_train(key, data)
        return trainer.params(state), state, record
    state = trainer.init_and_train_(key, data)
    return trainer.params(state), state


class _Given[P](eqx.Module):
    """An initializer that returns what it was given.

    No function, so that its arrays are leaves and another call compiles nothing again.
    """

    trained: Tree
    rest: tuple[Array, ...]
    template: Template[P] = eqx.field(static=True)

    def __init__(self, prms: P):
        self.template = Template(prms, "`prms`")
        self.trained, self.rest = self.template.split(prms)

    def __call__(self, key: PRNGKeyArray) -> P:
        del key
        return self.template.join(self.trained, self.rest)
