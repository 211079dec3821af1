"""Tasks whose value is the return of an episode: the only rollout."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from .._errors import check_key
from .._tree import where
from .._types import PRNGKeyArray, Scalar, Tree
from ..policies import BasePolicy
from ._base import AbstractTask
from ._spaces import EnvSpace, Layout


if TYPE_CHECKING:
    from envelope import Environment
else:
    Environment = Any  # `import realax` does not wait for envelope


class Trajectory(eqx.Module):
    """One episode, with a leading axis of `max_steps`.

    Where `valid` is false the episode was over already: everything else is zero there.

    - `obs`: the flattened observation that was acted on.
    - `action`: what the environment was given, after argmax or clipping.
    - `reward`: what it gave for that.
    - `terminated`, `truncated`: whether this step ended the episode, by the
        environment's own rules or by a time limit.
    """

    obs: Float[Array, "*steps obs"]
    action: Tree
    reward: Float[Array, "*steps"]
    valid: Bool[Array, "*steps"]
    terminated: Bool[Array, "*steps"]
    truncated: Bool[Array, "*steps"]


class _Episode(eqx.Module):
    env_state: Tree
    obs: Array
    policy_state: Tree
    done: Bool[Array, ""]
    total: Scalar
    length: Int[Array, ""]


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

    @abc.abstractmethod
    def environment(self) -> Environment:
        """The environment as `jax-envelope` sees it."""

    @property
    def maximize(self) -> bool:
        """True: a return is better when it is larger."""
        return True

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
        """
        del data
        if self.data_fn is None:
            episode, _ = self._play(params, key, collect=False)
            return episode.total, {"length": episode.length}
        episode, trajectory = self._play(params, key, collect=True)
        return episode.total, self.data_fn(trajectory)

    def rollout(self, params: P, key: PRNGKeyArray) -> Trajectory:
        """One episode, step by step: the one that `task(params, key)` scores."""
        _, trajectory = self._play(params, key, collect=True)
        return trajectory

    def _play(
        self, params: P, key: PRNGKeyArray, *, collect: bool
    ) -> tuple[_Episode, Any]:
        check_key(key)
        policy = _policy(self.model_factory(params), self.model_factory)
        environment = self.environment()
        # Not `key` itself for the policy: `fold_in(key, 0)` is `split(key)[0]`.
        env_key, init_key, policy_key = jr.split(key, 3)
        action_space = environment.action_space

        def step(episode: _Episode, t: Array) -> tuple[_Episode, Trajectory | None]:
            live = ~episode.done
            output, policy_state = policy(
                episode.obs, episode.policy_state, jr.fold_in(policy_key, t)
            )
            action = self.action_layout.to_action(output, action_space)
            env_state, info = environment.step(episode.env_state, action)
            reward = jnp.asarray(info.reward, jnp.result_type(float))
            if reward.shape != ():
                raise ValueError(
                    f"the environment's reward must be one number, but rewards of "
                    f"shape {reward.shape} came, as several agents get them. Wrap the "
                    "environment in one that adds them up."
                )
            terminated = jnp.asarray(info.terminated, bool)
            truncated = jnp.asarray(info.truncated, bool) | (t + 1 >= self.max_steps)
            after = _Episode(
                env_state=env_state,
                obs=self.obs_layout.flatten(info.obs),
                policy_state=policy_state,
                done=terminated | truncated,
                total=episode.total + reward,
                length=episode.length + 1,
            )
            # An episode that is over stands still, so that no number of it can turn
            # NaN behind a mask and reach a gradient.
            after = where(live, after, episode)
            if not collect:
                return after, None
            row = Trajectory(episode.obs, action, reward, live, terminated, truncated)
            return after, where(live, row, jax.tree.map(jnp.zeros_like, row))

        env_state, info = environment.init(env_key)
        start = _Episode(
            env_state=env_state,
            obs=self.obs_layout.flatten(info.obs),
            policy_state=policy.initialize(init_key),
            done=jnp.asarray(False),
            total=jnp.zeros(()),
            length=jnp.zeros((), jnp.int32),
        )
        arrays, static = eqx.partition(start, eqx.is_array_like)

        def body(arrays: Any, t: Array) -> tuple[Any, Trajectory | None]:
            episode, row = step(eqx.combine(arrays, static), t)
            return eqx.filter(episode, eqx.is_array_like), row

        arrays, rows = jax.lax.scan(body, arrays, jnp.arange(self.max_steps))
        return eqx.combine(arrays, static), rows


def check_kwargs(env: Any, env_kwargs: Mapping[str, Any] | None) -> None:
    """Refuse constructor arguments for what is built already, by a `ValueError`."""
    if not isinstance(env, str) and env_kwargs:
        raise ValueError(
            "`env_kwargs` are for an environment given by name, but an instance of "
            f"{type(env).__name__} came. Pass them to its constructor instead."
        )


def _policy(policy: Any, factory: Callable[..., Any]) -> BasePolicy[Any]:
    if not isinstance(policy, BasePolicy):
        raise TypeError(
            "the parameters of an environment task must be a policy, a subclass of "
            f"`realax.tasks.rl_policy.BasePolicy`, but `model_factory` ({factory}) "
            f"gave a {type(policy).__name__}. Pass a policy as `params_like`, or a "
            "`model_factory` that makes one from the parameters."
        )
    return policy
