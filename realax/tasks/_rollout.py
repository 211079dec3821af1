"""An episode: how it begins, how it goes on, and the scan over it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from .._trees import where
from .._types import PRNGKeyArray, Scalar, Tree
from ..policies import BasePolicy, Moments, NormalizedPolicy
from ..policies._base import decide
from ._spaces import Layout


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


class Episode(eqx.Module):
    """Where an episode is: the environment, the policy's state, and what was earned."""

    env_state: Tree
    obs: Array
    policy_state: Tree
    done: Bool[Array, ""]
    total: Scalar
    length: Int[Array, ""]
    moments: Moments | None


class Rollout(eqx.Module):
    """The rules of episodes on an environment. All that plays one plays it by these."""

    environment: Any
    action_space: Any
    obs_layout: Layout = eqx.field(static=True)
    action_layout: Layout = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def begin(
        self, policy: BasePolicy[Any], env_key: PRNGKeyArray, init_key: PRNGKeyArray
    ) -> Episode:
        """Before the first step."""
        env_state, info = self.environment.init(env_key)
        obs = self.obs_layout.flatten(info.obs)
        return Episode(
            env_state=env_state,
            obs=obs,
            policy_state=policy.initialize(init_key),
            done=jnp.asarray(False),
            total=jnp.zeros(()),
            length=jnp.zeros((), jnp.int32),
            moments=_normalized(policy).none_met(obs) if counts(policy) else None,
        )

    def advance(
        self, policy: BasePolicy[Any], episode: Episode, policy_key: PRNGKeyArray
    ) -> tuple[Episode, Trajectory]:
        """One step. An episode that is over stands still."""
        t, live = episode.length, ~episode.done
        moments = episode.moments
        if moments is not None:
            moments = _normalized(policy).met(moments, episode.obs)
        output, policy_state = decide(
            policy, episode.obs, episode.policy_state, jr.fold_in(policy_key, t)
        )
        action = self.action_layout.to_action(output, self.action_space, live)
        env_state, info = self.environment.step(episode.env_state, action)
        reward = jnp.asarray(info.reward, jnp.result_type(float))
        if reward.shape != ():
            raise ValueError(
                f"the environment's reward must be one number, but got rewards "
                f"of shape {reward.shape}, as several agents get them. Wrap the "
                "environment in one that adds them up."
            )
        terminated = jnp.asarray(info.terminated, bool)
        truncated = jnp.asarray(info.truncated, bool) | (t + 1 >= self.max_steps)
        after = Episode(
            env_state=env_state,
            obs=self.obs_layout.flatten(info.obs),
            policy_state=policy_state,
            done=terminated | truncated,
            total=episode.total + reward,
            length=t + 1,
            moments=moments,
        )
        # Standing still, so that no number of it can turn NaN behind a mask and reach
        # a gradient.
        after = where(live, after, episode)
        row = Trajectory(episode.obs, action, reward, live, terminated, truncated)
        return after, where(live, row, jax.tree.map(jnp.zeros_like, row))

    def scan(
        self, policy: BasePolicy[Any], key: PRNGKeyArray, *, collect: bool
    ) -> tuple[Episode, Trajectory | None]:
        """The whole episode, and if `collect` its trajectory."""
        env_key, init_key, policy_key = job_keys(key)
        start = self.begin(policy, env_key, init_key)
        arrays, static = eqx.partition(start, eqx.is_array_like)

        def body(arrays: Any, _: None) -> tuple[Any, Trajectory | None]:
            episode = eqx.combine(arrays, static)
            episode, row = self.advance(policy, episode, policy_key)
            return eqx.filter(episode, eqx.is_array_like), row if collect else None

        arrays, rows = jax.lax.scan(body, arrays, None, length=self.max_steps)
        return eqx.combine(arrays, static), rows


def counts(policy: Any) -> bool:
    """Whether a policy's observations are to be summed up."""
    return isinstance(policy, NormalizedPolicy) and policy.counting


def _normalized(policy: Any) -> NormalizedPolicy[Any]:
    return policy


def job_keys(key: PRNGKeyArray) -> PRNGKeyArray:
    """An episode's three keys: its environment's, the policy's first, its steps'."""
    # Not `key` itself for the policy: `fold_in(key, 0)` is `split(key)[0]`.
    return jr.split(key, 3)
