"""Evolution in one call."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Unpack, overload

from ..._arguments import Count, arguments, flag, one_key, whole
from ..._types import PRNGKeyArray, Tree
from ..._unpacked import defaults_of
from .._checks import trainable
from .._once import run_once
from .._options import RunOptions
from .._state import Record
from ._algorithm import Algorithm
from ._checks import CHECKS
from ._shaping import FitnessShaper
from ._state import ESMetrics, ESState
from ._trainer import EvosaxTrainer


class EvolveOptions(RunOptions, total=False):
    """Keywords of `evolve`, beside those of every run: as for `EvosaxTrainer`."""

    strategy: str | Algorithm
    popsize: Count
    eval_reps: Count
    fitness_shaper: FitnessShaper | None
    es_kws: Mapping[str, Any] | None
    es_params: Tree
    n_devices: Count


_OWN: dict[str, Any] = {"strategy": "OpenES", "steps": 1024, "data": None}
_DEFAULTS = defaults_of(EvosaxTrainer) | _OWN


@overload
def evolve[P](
    prms: P,
    task: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    use_scan: Literal[True] = ...,
    **options: Unpack[EvolveOptions],
) -> tuple[P, ESState[P], Record[ESMetrics]]: ...
@overload
def evolve[P](
    prms: P,
    task: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    use_scan: Literal[False],
    **options: Unpack[EvolveOptions],
) -> tuple[P, ESState[P]]: ...
@arguments(
    _DEFAULTS, prms=trainable, key=one_key, steps=whole(), use_scan=flag, **CHECKS
)
def evolve[P](
    prms: P,
    task: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
    key: PRNGKeyArray,
    *,
    use_scan: bool = True,
    **options: Unpack[EvolveOptions],
) -> tuple[P, ESState[P], Record[ESMetrics]] | tuple[P, ESState[P]]:
    """Evolve `prms` on a task, with an `EvosaxTrainer` built from these arguments.

    **Arguments:**

    - `prms`: the parameters at the start: any pytree, a whole model included.
    - `task`: as for `EvosaxTrainer`.
    - `key`: the run's key.
    - `use_scan`: whether to keep every generation's metrics. Without them, memory does
        not grow with `steps`.
    - `options`: by keyword, `strategy` (by default `"OpenES"`), `steps` (1024) and
        `data` (`None`), which is passed to the task; and `popsize`, `eval_reps`,
        `fitness_shaper`, `es_kws`, `es_params`, `n_devices`, `callbacks`, `logger`,
        `progress_bar` and `compiler_options`, with the defaults of `EvosaxTrainer`.

    **Returns:** `(params, state, data)`, or without `use_scan` `(params, state)`;
    `params` is of the type of `prms`.
    """
    given: dict[str, Any] = {**_OWN, **options}
    steps, data = given.pop("steps"), given.pop("data")
    trainer = EvosaxTrainer(steps, task=task, params_like=prms, **given)
    return run_once(trainer, key, data, use_scan)
