"""The rules of an episode: its start, one step, and a scan over all of its steps."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._errors import describe
from .._keys import fold_in, split
from .._trees import where
from .._types import PRNGKeyArray, Scalar, Tree
from ..policies import BasePolicy, Moments
from ._descriptor import AbstractDescriptor, begun, described, updated
from ._spaces import Layout


class Trajectory(eqx.Module):
    """The steps of one episode, with a leading axis of `max_steps`.

    - `obs`: the observation before the step, of shape `(steps, obs_dims)`; the
        environment's own tree with `flatten_obs=False`.
    - `action`: the action that the environment got, after argmax or clipping.
    - `reward`: the environment's reward for it.
    - `valid`: False for steps after the episode's end, where all other fields are zero.
    - `terminated`, `truncated`: True if this step ended the episode, by the
        environment's own rules or by a time limit.
    - `extras`: the extras of `policy.decide`; `None` if there are none.
    """

    obs: Tree
    action: Tree
    reward: Float[Array, "*steps"]
    valid: Bool[Array, "*steps"]
    terminated: Bool[Array, "*steps"]
    truncated: Bool[Array, "*steps"]
    extras: Tree = None


class Experience(eqx.Module):
    """One step of an episode as a learner needs it.

    - `obs`: the observation before the step.
    - `output`: the policy's own output, before argmax or clipping.
    - `extras`: the extras of `policy.decide`; `None` if there are none.
    - `action`: the action that the environment got, after argmax or clipping.
    - `reward`: the environment's reward for it.
    - `terminated`, `truncated`: True if this step ended the episode, by the
        environment's own rules or by a time limit.
    - `next_obs`: the observation after the step. At an episode's end it is the last one
        of that episode, not the first one of the next.
    - `failed`: True if the reward or a number of an observation is not finite.
    """

    obs: Tree
    output: Tree
    extras: Tree
    action: Tree
    reward: Float[Array, "*steps"]
    terminated: Bool[Array, "*steps"]
    truncated: Bool[Array, "*steps"]
    next_obs: Tree
    failed: Bool[Array, "*steps"]

    @property
    def over(self) -> Bool[Array, "*steps"]:
        """True if the episode ends with the step, for any reason."""
        return self.terminated | self.truncated | self.failed


class Episode(eqx.Module):
    """An episode in progress.

    - `env_state`, `obs`: the environment's state, and the observation for the policy.
    - `policy_state`: the policy's own state.
    - `done`: True if the episode is over.
    - `total`, `length`: the sum of the rewards, and the number of steps so far.
    - `moments`: the sums over the observations so far; `None` if they are not computed.
    - `summary`: what the task's `descriptor` made of the steps so far; `None` without.
    """

    env_state: Tree
    obs: Tree
    policy_state: Tree
    done: Bool[Array, ""]
    total: Scalar
    length: Int[Array, ""]
    moments: Moments | None
    summary: Tree = None


# What a scan over an episode keeps of a step: `(episode before it, row) -> tree`.
type Collect = Callable[[Episode, Trajectory], Tree]


class Rollout(eqx.Module):
    """Defines how episodes are played. All evaluations and streams use it.

    `job_keys` splits an episode's key into three: for the environment, for
    `policy.initialize`, and for the policy's steps; step `t` gets `fold_in(key, t)` of
    the third.
    """

    environment: Any
    action_space: Any
    obs_layout: Layout = eqx.field(static=True)
    action_layout: Layout = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    flatten_obs: bool = eqx.field(static=True)
    descriptor: AbstractDescriptor | None = None

    def begin(
        self,
        policy: BasePolicy[Any],
        env_key: PRNGKeyArray,
        init_key: PRNGKeyArray,
        *,
        count: bool = False,
    ) -> Episode:
        """Return an episode before its first step.

        **Arguments:**

        - `policy`: the policy that will play.
        - `env_key`, `init_key`: the first two of the episode's `job_keys`.
        - `count`: whether to sum up the observations.
        """
        env_state, info = self.environment.init(env_key)
        obs = self.shown(info.obs)
        summary = None
        if self.descriptor is not None:
            summary = begun(self.descriptor, env_state, info)
        return Episode(
            env_state=env_state,
            obs=obs,
            policy_state=policy.initialize(init_key),
            done=jnp.asarray(False),
            total=jnp.zeros(()),
            length=jnp.zeros((), jnp.int32),
            moments=Moments.before(obs) if count else None,
            summary=summary,
        )

    def step(
        self,
        policy: BasePolicy[Any],
        episode: Episode,
        noise: Tree,
        live: Bool[Array, ""] | bool = True,
    ) -> tuple[Episode, Experience]:
        """Make one step of an episode that is not over.

        **Arguments:**

        - `policy`: the policy that plays.
        - `episode`: the episode so far.
        - `noise`: the policy's random numbers of this step, see `noise_of`.
        - `live`: whether the step counts. If not, a wrong action raises no error.

        **Returns:** The episode after the step, and the step's `Experience`.
        """
        t = episode.length
        moments = episode.moments
        if moments is not None:
            moments = moments.with_obs(episode.obs)
        decision = policy.decide(episode.obs, episode.policy_state, noise)
        live = False if decision.checked else live
        action = self.action_layout.to_action(decision.output, self.action_space, live)
        env_state, info = self.environment.step(episode.env_state, action)
        if not eqx.is_array_like(info.reward):
            raise ValueError(
                f"the environment's reward must be one number, but got "
                f"{describe(info.reward)}. Return a reward from its `step`."
            )
        reward = jnp.asarray(info.reward, jnp.result_type(float))
        if reward.shape != ():
            raise ValueError(
                f"the environment's reward must be one number, but got rewards "
                f"of shape {reward.shape}, as several agents get them. Wrap the "
                "environment in one that adds them up."
            )
        terminated = jnp.asarray(info.terminated, bool)
        truncated = jnp.asarray(info.truncated, bool) | (t + 1 >= self.max_steps)
        summary = episode.summary
        if self.descriptor is not None:
            summary = updated(self.descriptor, summary, env_state, info)
        after = Episode(
            env_state=env_state,
            obs=self.shown(info.obs),
            policy_state=decision.state,
            done=terminated | truncated,
            total=episode.total + reward,
            length=t + 1,
            moments=moments,
            summary=summary,
        )
        return after, Experience(
            obs=episode.obs,
            output=decision.output,
            extras=decision.extras,
            action=action,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            next_obs=after.obs,
            failed=~_is_finite((reward, episode.obs, after.obs)),
        )

    def advance(
        self, policy: BasePolicy[Any], episode: Episode, policy_key: PRNGKeyArray
    ) -> tuple[Episode, Trajectory]:
        """Advance the episode by one step; a finished episode is unchanged.

        **Arguments:**

        - `policy`, `episode`: as for `step`.
        - `policy_key`: the last of the episode's `job_keys`.

        **Returns:** The episode after the step, and the step's row of a `Trajectory`.
        """
        live = ~episode.done
        noise = noise_of(policy, episode, policy_key, episode.length)
        after, step = self.step(policy, episode, noise, live)
        # A finished episode is frozen, so that no number behind the mask can become NaN
        # and reach a gradient.
        after = where(live, after, episode)
        row = Trajectory(
            obs=step.obs,
            action=step.action,
            reward=step.reward,
            valid=live,
            terminated=step.terminated,
            truncated=step.truncated,
            extras=step.extras,
        )
        return after, where(live, row, jax.tree.map(jnp.zeros_like, row))

    def scan(
        self,
        policy: BasePolicy[Any],
        key: PRNGKeyArray,
        *,
        collect: Collect | None = None,
        count: bool = False,
    ) -> tuple[Episode, Tree]:
        """Play a whole episode.

        **Arguments:**

        - `policy`: the policy that plays.
        - `key`: the episode's key.
        - `collect`: a function of the episode before each step and of the step's row,
            such as `row_of`.
        - `count`: whether to sum up the observations.

        **Returns:** The episode at its end, and what `collect` returned, with a leading
        axis of `max_steps`; `None` without it.
        """
        env_key, init_key, policy_key = job_keys(key)
        start = self.begin(policy, env_key, init_key, count=count)
        arrays, static = eqx.partition(start, eqx.is_array_like)

        def body(arrays: Any, _: None) -> tuple[Any, Tree]:
            before = eqx.combine(arrays, static)
            after, row = self.advance(policy, before, policy_key)
            kept = None if collect is None else collect(before, row)
            return eqx.filter(after, eqx.is_array_like), kept

        arrays, kept = jax.lax.scan(body, arrays, None, length=self.max_steps)
        return eqx.combine(arrays, static), kept

    def descriptor_of(self, episode: Episode) -> Float[Array, " dims"] | None:
        """Return the descriptor of an episode that is over; `None` without one."""
        return described(self.descriptor, episode.summary, episode.length)

    def shown(self, obs: Tree) -> Tree:
        """Return an environment's observation in the form that the policy gets."""
        if self.flatten_obs:
            return self.obs_layout.flatten(obs)
        return jax.tree.map(jnp.asarray, obs)


def row_of(episode: Episode, row: Trajectory) -> Trajectory:
    """The row of a step, by which a scan collects the `Trajectory`."""
    del episode
    return row


def job_keys(key: PRNGKeyArray) -> PRNGKeyArray:
    """Split an episode's key: for the environment, `initialize`, the policy's steps."""
    # The policy cannot use `key` itself, because `fold_in(key, 0)` is `split(key)[0]`.
    return split(key, 3)


def noise_of(
    policy: BasePolicy[Any],
    episode: Episode,
    policy_key: PRNGKeyArray,
    t: Int[Array, ""],
) -> Tree:
    """Return the random numbers of a policy for step `t` of an episode.

    **Arguments:**

    - `policy`: the policy that plays.
    - `episode`: any step of the episode.
    - `policy_key`: the last of its `job_keys`.
    - `t`: the step, from 0.
    """
    key = fold_in(policy_key, t)
    return policy.noise_for(key, episode.obs, episode.policy_state)


def _is_finite(tree: Tree) -> Bool[Array, ""]:
    leaves = [x for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(x)) for x in leaves])


def arrays_of(episode: Episode) -> Episode:
    """Return the arrays and numbers of an episode, as arrays, without other leaves."""
    return jax.tree.map(jnp.asarray, eqx.filter(episode, eqx.is_array_like))


def rest_of(outline: Episode) -> Episode:
    """Return the leaves of an episode that are neither arrays nor numbers.

    **Arguments:**

    - `outline`: an episode as `eqx.filter_eval_shape` returns it.
    """
    return eqx.filter(
        outline,
        lambda x: isinstance(x, jax.ShapeDtypeStruct) or eqx.is_array_like(x),
        inverse=True,
    )
