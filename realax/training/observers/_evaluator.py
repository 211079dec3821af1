"""Evaluation of the current policy between chunks."""

import math
import operator
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex, override

import equinox as eqx
import numpy as np

from ..._arguments import arguments, function, optional, path, text, whole
from ..._storage._atomic import make_folder
from ..._types import PRNGKeyArray
from ...tasks import AbstractTask, as_task
from ._base import AbstractObserver, Handle
from ._best_policy import BestPolicy, read_best
from ._lock import Claim, claim
from ._run import Measured, Run
from ._trial import Trial


class _Open:
    """The trial of the run in progress, and the best policy so far."""

    trial: Trial | None = None
    lock: Claim | None = None
    running: bool = False
    best: BestPolicy | None = None
    obsolete: bool = False  # whether the file is of an earlier run


class Evaluator(AbstractObserver):
    """Plays the current policy, logs its returns, and keeps the best policy.

    After each multiple of `every` steps, `trainer.params(state)` plays `episodes`
    episodes. The mean, the smallest and the largest of their returns are logged with
    the metrics of that step as `eval_return`, `eval_return_min` and `eval_return_max`.
    The last step of a run is evaluated if it is such a multiple. Of runs side by side,
    those of each lane are logged in its rows, and the best policy is that of the best
    mean over all lanes.

    The episodes of step `s` have the keys `split(fold_in(fold_in(key, 2**32 - 1), s),
    (1, episodes))[0]` of the run's `key`. They differ from those of training and from
    step to step, and do not depend on chunks: a resumed run logs the same numbers.

    The best policy is the one with the best mean in the direction of the task, the
    earliest one of equals. NaN and infinity are never the best. A run from step 0
    begins anew. A run that goes on from a later step goes on from the best so far of
    this observer, or of the `file`, without which a resumed run in a new process
    begins anew as well.

    **Arguments:**

    - `task`: the task to play: `(params, key, data) -> (value, aux)` or an
        `AbstractTask`. It gets the run's `data`, or `None` from a stream. If `None`,
        the task on which the trainer trains.
    - `every`: evaluate after multiples of this many steps.
    - `episodes`: the number of episodes; if `None`, 16, or 1 for a task whose value
        does not depend on the key. They are played side by side.
    - `name`: the name of the mean in logs, from which the other two are made.
    - `file`: a file that holds the best policy, which `load_params` reads. A run from
        step 0 replaces it, and a resumed one takes it up.

    **Raises:** `ValueError` or `TypeError` that names the argument and says what to do;
    at the start of a run if there is no task, or if it cannot play the policy.
    """

    task: AbstractTask[Any] | None
    every: int | None = eqx.field(default=None, kw_only=True)
    episodes: int | None = eqx.field(kw_only=True)
    name: str = eqx.field(kw_only=True)
    file: pathlib.Path | None = eqx.field(kw_only=True)
    handle: Handle[_Open] = eqx.field(static=True, kw_only=True)

    @arguments(
        task=optional(function("(params, key, data) -> (value, aux)")),
        every=whole(),
        episodes=optional(whole()),
        name=text,
        file=optional(path),
    )
    def __init__(
        self,
        task: Callable[[Any, PRNGKeyArray, Any], tuple[Any, Any]] | None = None,
        every: SupportsIndex = 10,
        episodes: SupportsIndex | None = None,
        *,
        name: str = "eval_return",
        file: str | pathlib.Path | None = None,
    ):
        self.task = None if task is None else as_task(task)
        self.every = operator.index(every)
        self.episodes = None if episodes is None else operator.index(episodes)
        self.name = name
        self.file = None if file is None else pathlib.Path(file)
        self.handle = Handle(_Open())

    @property
    def best_params(self) -> Any:
        """The best policy so far, of the type of `trainer.params`.

        **Raises:** `RuntimeError` if none was evaluated.
        """
        return self._best.params

    @property
    def best_return(self) -> float:
        """The mean of its returns.

        **Raises:** `RuntimeError` if none was evaluated.
        """
        return self._best.value

    @property
    def best_step(self) -> int:
        """The number of steps after which it was evaluated.

        **Raises:** `RuntimeError` if none was evaluated.
        """
        return self._best.step

    @property
    def _best(self) -> BestPolicy:
        if (best := self._opened.best) is None:
            raise RuntimeError(
                "this `Evaluator` has no best policy yet: none was evaluated with a "
                f"finite mean. It evaluates after multiples of {self.every} steps, its "
                "`every`, of a run among whose `callbacks` it is."
            )
        return best

    @property
    def _opened(self) -> _Open:
        if self.handle.value is None:
            self.handle.value = _Open()
        return self.handle.value

    @override
    def claim(self) -> None:
        """Lock the file."""
        opened = self._opened
        if opened.running:
            raise RuntimeError(
                "this `Evaluator` watches another run at the moment. Build one for "
                "each run, with a file of its own."
            )
        if self.file is not None:
            make_folder(self.file.parent, "file")
            what = f"the best policy {self.file}"
            opened.lock = claim(self.file.parent, self.file.name, what, "file")
        opened.running = True

    @override
    def release(self) -> None:
        """Release the file."""
        opened = self._opened
        opened.running, opened.trial = False, None
        held, opened.lock = opened.lock, None
        if held is not None:
            held.release()

    @override
    def on_start(self, run: Run, state: Any) -> None:
        """Find the task, and take up the best policy of a run that goes on."""
        opened = self._opened
        opened.trial = trial = Trial(run, self.task, self.episodes)
        if self.task is not None:  # the trainer's own is known to fit
            trial.check(state)
        new = int(state.step) == 0
        if new:
            opened.best = None
        opened.obsolete = new
        if self.file is not None and not new:
            like = trial.shape(state)
            opened.best = read_best(self.file, like, trial.fingerprint) or opened.best

    @override
    def measure(self, steps: np.ndarray, state: Any) -> Mapping[str, Measured]:
        """Return the returns of the policy after multiples of `every`."""
        opened = self._opened
        if opened.trial is None or self.every is None:
            return {}
        if opened.obsolete and self.file is not None:
            self.file.unlink(missing_ok=True)
            opened.obsolete = False
        if steps[-1] % self.every != 0:
            return {}
        policy, returns, logged = opened.trial(state)
        with np.errstate(invalid="ignore"):  # of infinities
            mean = float(np.mean(returns))
            means = np.mean(logged, axis=0)
        if _is_better(mean, opened.best, opened.trial.task.maximize):
            opened.best = BestPolicy(policy, mean, int(steps[-1]))
            if self.file is not None:
                opened.best.write(self.file, opened.trial.fingerprint)
        return {
            self.name: means,
            f"{self.name}_min": np.min(logged, axis=0),
            f"{self.name}_max": np.max(logged, axis=0),
        }

    @override
    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Release the file."""
        del state, error
        self.release()


def _is_better(mean: float, best: BestPolicy | None, maximize: bool) -> bool:
    if not math.isfinite(mean):
        return False
    if best is None:
        return True
    return mean > best.value if maximize else mean < best.value
