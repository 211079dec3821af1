"""Trials of a run's current policy on a task."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._check import no_type_check
from ..._compile import checked_options, compiled, readable_errors
from ..._hosts._arrays import local
from ..._keys import fold_in, split
from ..._storage._fingerprint import configuration
from ..._types import PRNGKeyArray, Tree
from ...tasks import AbstractTask, as_task
from .._evaluate import LaneValues, evaluate_population
from .._signals import acting_at_once
from ._run import Run


# Steps are numbers below 2**31, so that no step of training has this key.
_DOMAIN = 2**32 - 1
_EPISODES = 16


def play(
    trainer: Any,
    task: AbstractTask[Any],
    episodes: int,
    state: Any,
    key: PRNGKeyArray,
    data: Tree,
) -> tuple[Any, Float[Array, " episodes"], Float[Array, "episodes lanes"] | None]:
    """Return the policy of a state, and its value in each of several episodes.

    Of runs side by side the value is the mean over them, and those of each of them
    follow.

    **Arguments:**

    - `trainer`: the trainer as it is compiled.
    - `task`: the task that is played.
    - `episodes`: how often.
    - `state`: the trainer's state.
    - `key`: the run's key, from which those of the episodes are derived.
    - `data`: the data of the run.
    """
    policy = trainer.params(state)
    population = jax.tree.map(
        lambda leaf: jnp.asarray(leaf)[None] if eqx.is_array(leaf) else leaf, policy
    )
    keys = split(fold_in(fold_in(key, _DOMAIN), state.step), (1, episodes))
    result = evaluate_population(task, population, keys, data)
    aux: Any = result.aux
    lanes = aux.values[0] if isinstance(aux, LaneValues) else None
    return policy, result.values[0], lanes


class Trial:
    """Plays the current policy of a run.

    - `task`: the task that is played.
    - `episodes`: how often.

    **Arguments:**

    - `run`: the run.
    - `task`: the task; if `None`, that of the trainer.
    - `episodes`: the number of episodes; if `None`, 16, or 1 where the value does not
        depend on the key.

    **Raises:** `ValueError` if there is no task, or if its data are not known.
    """

    def __init__(self, run: Run, task: AbstractTask[Any] | None, episodes: int | None):
        self._run = run
        self.task = _task_of(run) if task is None else _given(run, task)
        self.episodes = episodes or (_EPISODES if self.task.stochastic else 1)
        # Those of the trainer are those of its own task, unless it has others.
        options = (
            run.trainer.xla_options if task is None else self.task.compiler_options
        )
        self._options = checked_options(options, self.task.display_name)

    @no_type_check
    def __call__(self, state: Any) -> tuple[Any, np.ndarray, np.ndarray]:
        """Return the policy of a state, its value in each episode, and those to log.

        The ones to log have a second axis of lanes if the run has lanes.
        """
        if self.task.on_host:
            with acting_at_once():  # workers may hang
                policy, values, lanes = play(*self._arguments(state))
        else:
            run = compiled(play, self._options)
            policy, values, lanes = run(*self._arguments(state))
        values = np.asarray(values, np.float64)
        if lanes is None or lanes.shape[-1] != len(self._run.trainer.lanes):
            return policy, values, values
        return policy, values, np.asarray(lanes, np.float64)

    def check(self, state: Any) -> None:
        """Trace a trial without compiling it, for the error of a task that misfits."""
        if self.task.on_host:
            return
        with readable_errors():
            eqx.filter_eval_shape(play, *self._arguments(state))

    def shape(self, state: Any) -> Tree:
        """Return the policy of a state with shapes in the place of its arrays."""
        return eqx.filter_eval_shape(self._run.compiled_trainer.params, state)

    @functools.cached_property
    def fingerprint(self) -> dict[str, str]:
        """The fingerprint of the task and the number of episodes."""
        return configuration({"task": self.task, "episodes": self.episodes})

    def _arguments(self, state: Any) -> tuple[Any, ...]:
        run = self._run
        trainer = run.compiled_trainer
        return trainer, self.task, self.episodes, state, run.key, run.data


def _task_of(run: Run) -> AbstractTask[Any]:
    found: Any = run.compiled_trainer.evaluation_task
    if found is not None and as_task(found, "evaluation_task").on_host:
        found = run.trainer.evaluation_task  # not its outline
    name = type(run.trainer).__name__
    if found is None:
        raise ValueError(
            f"`Evaluator` needs a task, because `{name}` names none that scores its "
            "parameters. Pass one, `Evaluator(task)`, or define the property "
            f"`evaluation_task` in `{name}`."
        )
    if run.streamed:
        raise ValueError(
            f"`Evaluator` needs a task of its own for a stream, because the batches on "
            f"which `{name}` trains are not kept. Pass one that holds its data: "
            "`Evaluator(lambda params, key, data: loss_fn(params, key, held_out))`."
        )
    return as_task(found, "evaluation_task")


def _given(run: Run, task: Any) -> AbstractTask[Any]:
    # Of several processes, the first plays alone.
    return local(run.trainer.placed(run.compiled_trainer.evaluation_of(task)))
