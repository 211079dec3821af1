"""Tasks whose value is the return of an episode: the only rollout."""

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
from jax.core import Tracer
from jaxtyping import Array, Float, Key
from typing_extensions import TypeVar

from .._compile import readable_errors
from .._errors import check_key
from .._types import PRNGKeyArray, Scalar, Tree
from ..policies import BasePolicy, NormalizedPolicy, ObsStats, no_obs
from ._base import AbstractTask
from ._derivatives import guarded, stops_gradients
from ._lanes import play_in_lanes
from ._rollout import Episode, Rollout, Trajectory, counts
from ._spaces import EnvSpace, Layout


if TYPE_CHECKING:
    from envelope import Environment
else:
    Environment = Any  # `import realax` does not wait for envelope


# `class GymnaxTask[P = Any]`, which Python 3.12 can not write: what plays in a task is
# seldom known where the task is made.
Params = TypeVar("Params", default=Any, infer_variance=True)


class EnvTask[P](AbstractTask[P]):
    """The return of a policy's episode on an environment, to be maximised.

    `task(params, key)` is `(return, aux)`; aux is `{"length": steps played}`, or what
    `data_fn` makes of the `Trajectory`. Nothing after an episode's end is counted.

    Where randomness comes from: the job's `key` splits into three, for the environment,
    for `policy.initialize`, and for the policy's steps, of which step `t` gets
    `fold_in(key, t)`. An episode depends on its own key alone.

    This class is abstract: `GymnaxTask`, `BraxTask` and `EnvelopeTask` are its kinds,
    and `make` finds the right one.
    """

    max_steps: eqx.AbstractVar[int]
    model_factory: eqx.AbstractVar[Callable[[Any], Any]]
    data_fn: eqx.AbstractVar[Callable[[Trajectory], Tree] | None]
    obs_layout: eqx.AbstractVar[Layout]
    action_layout: eqx.AbstractVar[Layout]

    lanes: eqx.AbstractVar[int | None]
    chunk: eqx.AbstractVar[int | None]
    normalize_obs: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def environment(self) -> Environment:
        """The environment as `jax-envelope` sees it."""

    @property
    def maximize(self) -> bool:
        """True: a return is better when it is larger."""
        return True

    @property
    def stochastic(self) -> bool:
        """True: episodes begin at random."""
        return True

    @property
    def differentiable(self) -> bool:
        """Whether derivatives of the return are right, and of use for training.

        False where actions are discrete choices, of which the derivative is 0; and
        where the environment stops gradients, as most of gymnax's do, so that the
        derivative through an episode would be wrong. There, taking it is an error.
        """
        return self._obstacle is None

    @property
    def _obstacle(self) -> str | None:
        if self.action_layout.chooses:
            return "its actions are discrete choices, of which the derivative is 0."
        return self._stopped()

    def _stopped(self) -> str | None:
        """In a sentence that the environment stops gradients, where it does."""
        if not stops_gradients(self.environment(), self.action_layout):
            return None
        return "the environment stops gradients in its step."

    @property
    def space(self) -> EnvSpace:
        """The sizes that a policy needs."""
        action = self.action_layout
        return EnvSpace(self.obs_layout.size, action.size, action.discrete)

    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """The return of one episode, and its aux.

        **Arguments:**

        - `params`: what `model_factory` makes a policy from; with the default, the
            policy itself.
        - `key`: the episode's key.
        - `data`: not used.

        **Raises:** `TypeError` where it is differentiated and the environment stops
        gradients.
        """
        del data
        if self.data_fn is None:
            episode, _ = self._play(params, key, collect=False)
            aux: Any = {"length": episode.length}
        else:
            episode, trajectory = self._play(params, key, collect=True)
            aux = self.data_fn(trajectory)
        return episode.total, (aux, episode.moments) if counts(params) else aux

    def begin(self) -> ObsStats | None:
        """The statistics of no observation, with `normalize_obs`; else `None`."""
        return no_obs(self.obs_layout.size) if self.normalize_obs else None

    def evaluate(
        self, population: P, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> tuple[Float[Array, "pop reps"], Tree]:
        """The returns of every individual, and their aux.

        Episodes are played in `lanes` side by side: a lane whose episode is over takes
        the next one, so that short episodes do not wait for long ones, and memory
        follows the lanes and not the population. Each episode is the one that
        `task(params, key)` plays. With `data_fn`, or `lanes=0`, all are played at once.
        """
        if self.data_fn is not None or self.lanes == 0 or 0 in keys.shape:
            return super().evaluate(population, keys, data)
        return play_in_lanes(self, population, keys)

    def rollout(self, params: P, key: PRNGKeyArray) -> Trajectory:
        """One episode, step by step: the one that `task(params, key)` scores."""
        _, trajectory = self._play(params, key, collect=True)
        return trajectory

    def _play(
        self, params: P, key: PRNGKeyArray, *, collect: bool
    ) -> tuple[Episode, Any]:
        check_key(key)
        with readable_errors():
            played = self._rollout.scan(self._policy(params), key, collect=collect)
            total = played[0].total
            if self.action_layout.chooses and not isinstance(total, Tracer):
                total.block_until_ready()  # raises its error, if there is one
            return played

    @property
    def _rollout(self) -> Rollout:
        environment = guarded(self.environment(), self._stopped)
        return Rollout(
            environment,
            environment.action_space,
            self.obs_layout,
            self.action_layout,
            self.max_steps,
        )

    def _policy(self, params: P) -> BasePolicy[Any]:
        return guarded(self._made(params), self._stopped)

    def _made(self, params: P) -> BasePolicy[Any]:
        if isinstance(params, NormalizedPolicy):
            policy = _checked(self.model_factory(params.policy), self.model_factory)
            return NormalizedPolicy(policy, params.stats, params.counting)
        return _checked(self.model_factory(params), self.model_factory)


def check_kwargs(env: Any, env_kwargs: Mapping[str, Any] | None) -> None:
    """Refuse constructor arguments for what is built already, by a `ValueError`."""
    if not isinstance(env, str) and env_kwargs:
        raise ValueError(
            "`env_kwargs` are for an environment given by name, but got an instance of "
            f"{type(env).__name__}. Pass them to its constructor instead."
        )


def _kind(policy: Any) -> str:
    if isinstance(policy, type):
        return f"the class `{policy.__name__}`"
    return f"a {type(policy).__name__}"


def _checked(policy: Any, factory: Callable[..., Any]) -> BasePolicy[Any]:
    if not isinstance(policy, BasePolicy):
        raise TypeError(
            "the parameters of an environment task must be a policy, a subclass of "
            f"`realax.tasks.rl_policy.BasePolicy`, but got {_kind(policy)} from "
            f"`model_factory` ({factory}). Pass a policy as `params_like`, or a "
            "`model_factory` that makes one from the parameters."
        )
    return policy
