"""Gradient training in one call."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Unpack, overload

import equinox as eqx
from jaxtyping import Array

from ..._arguments import arguments, flag, one_key, whole
from ..._template import Template
from ..._types import PRNGKeyArray, Tree
from ..._unpacked import defaults_of
from .._checks import trainable
from .._once import run_once
from .._optimizers import Optimizer
from .._options import RunOptions
from .._state import Record
from ._checks import CHECKS
from ._rate import LearningRate
from ._state import GradMetrics, GradState
from ._trainer import OptaxTrainer


class OptimizeOptions(RunOptions, total=False):
    """Keywords of `optimize`, beside those of every run: as for `OptaxTrainer`."""

    optimizer: str | Optimizer
    learning_rate: LearningRate | None
    opt_kws: Mapping[str, Any] | None


_OWN: dict[str, Any] = {"optimizer": "adamw", "steps": 1024, "data": None}
_DEFAULTS = defaults_of(OptaxTrainer) | _OWN


@overload
def optimize[P](
    prms: P,
    loss_fn: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    use_scan: Literal[True] = ...,
    **options: Unpack[OptimizeOptions],
) -> tuple[P, GradState[P], Record[GradMetrics]]: ...
@overload
def optimize[P](
    prms: P,
    loss_fn: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    use_scan: Literal[False],
    **options: Unpack[OptimizeOptions],
) -> tuple[P, GradState[P]]: ...
@arguments(
    _DEFAULTS,
    prms=trainable,
    key=one_key,
    steps=whole(),
    use_scan=flag,
    **CHECKS,
)
def optimize[P](
    prms: P,
    loss_fn: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    use_scan: bool = True,
    **options: Unpack[OptimizeOptions],
) -> tuple[P, GradState[P], Record[GradMetrics]] | tuple[P, GradState[P]]:
    """Train `prms` by gradient, with an `OptaxTrainer` built from these arguments.

    **Arguments:**

    - `prms`: the parameters at the start: any pytree, a whole model included.
    - `loss_fn`: as for `OptaxTrainer`.
    - `key`: the run's key.
    - `use_scan`: whether to keep every step's metrics. Without them, memory does not
        grow with `steps`.
    - `options`: by keyword, `optimizer` (by default `"adamw"`), `steps` (1024) and
        `data` (`None`), which is passed to the loss; and `learning_rate`,
        `opt_kws`, `callbacks`, `logger`, `progress_bar` and `compiler_options`, with
        the defaults of `OptaxTrainer`.

    **Returns:** `(params, state, data)`, or without `use_scan` `(params, state)`;
    `params` is of the type of `prms`.
    """
    given: dict[str, Any] = {**_OWN, **options}
    steps, data = given.pop("steps"), given.pop("data")
    trainer = OptaxTrainer(steps, initializer=_Given(prms), loss_fn=loss_fn, **given)
    return run_once(trainer, key, data, use_scan)


class _Given[P](eqx.Module):
    """An initializer that returns the parameters that it was given.

    It is a module, so that its arrays are leaves and another call compiles nothing.
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
