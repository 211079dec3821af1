"""Twin delayed deep deterministic policy gradients, and their plain configuration."""

from typing import Any, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Float

from ..._arguments import Count, arguments, number, whole
from ..._keys import quick, split
from ..._types import PRNGKeyArray, Tree
from ...policies import BasePolicy, BoundedPolicy, NoisyPolicy
from .._gradient_guard import GradientGuard
from ._checks import env_task, network as a_network, updates_of
from ._episodes import EpisodeMetrics
from ._learned import Learned, toward
from ._learner import leaf
from ._networks import Network
from ._off_policy import AbstractOffPolicy
from ._off_policy_options import (
    OFF_POLICY_CHECKS,
    OFF_POLICY_DEFAULTS,
    OffPolicyOptions,
)
from ._off_policy_state import AbstractNets
from ._spaces import bounds_of
from ._transitions import Replayed
from ._value_networks import (
    action_critics,
    check_scores,
    critic_loss,
    first_critic,
    output_of,
    policy_network,
    relu_mlp,
    scalar_values,
)


_OWN: OffPolicyOptions = {"learning_rate": 1e-3}


class TD3Metrics(EpisodeMetrics):
    """Metrics of each step of TD3, beside those of every learner.

    - `value_loss`: the mean loss of the critics, before each step.
    - `mean_value`: the mean estimate of the first critic for the stored actions.
    - `policy_loss`: the loss of the policy when it last moved.
    """

    value_loss: Float[Array, ""]
    mean_value: Float[Array, ""]
    policy_loss: Float[Array, ""]


class TD3Nets(AbstractNets):
    """The networks of TD3.

    - `actor`, `critics`: the policy and the critics in training.
    - `target_actor`, `target_critics`: the arrays of those that give the targets.
    - `policy_loss`: the loss of the policy when it last moved.
    """

    actor: Learned[BoundedPolicy]
    critics: Learned[Any]
    target_actor: Tree
    target_critics: Tree
    policy_loss: Float[Array, ""]

    @property
    def policy(self) -> BasePolicy[Any]:
        """The policy after the last batch."""
        return self.actor.network

    @property
    def guards(self) -> tuple[GradientGuard, ...]:
        """The guards of the critics and of the policy."""
        return self.critics.guard, self.actor.guard


class TD3(AbstractOffPolicy[TD3Nets, TD3Metrics]):
    """Trains a policy of continuous actions by twin delayed policy gradients.

    Critics estimate the return of an action. They learn from random steps of the latest
    `buffer_size`, by the target `reward + gamma * value` of slowly following networks,
    the smallest value of the critics at a noisy action. The policy learns to play
    actions of a large value, and plays with noise to explore. Nothing follows a
    termination; after an episode that was cut off by a time limit, the value of its
    last observation does.

    **Arguments:**

    - `env`: the name of an environment, an `EnvTask`, or an environment of any suite.
        Its actions are continuous, between finite bounds.
    - `total_timesteps`: how many steps to play, of all environments together, with the
        random ones before learning starts.
    - `actor`: a module from an observation to one number for each component of the
        action, whose tanh is scaled to the bounds; a function `(key) -> module` gives
        each seed its own start. A policy that was trained before, a `NormalizedPolicy`
        included, goes on. By default, two hidden layers of 256 with rectifiers.
    - `critic`: a function `(key) -> module`, where the module maps `(obs, action)` to a
        value; `rx.ActionValue` makes one of a module that takes one vector. By default,
        two hidden layers of 256 with rectifiers.
    - `num_critics`: how many critics there are.
    - `policy_delay`: the policy and the targets move at every so many batches.
    - `exploration_noise`: the deviation of the noise of the actions that are played, in
        half of the distance of the bounds.
    - `target_noise`, `noise_clip`: the deviation of the noise of the targets' actions,
        and the largest such noise, likewise.
    - `tau`: the share of the way to the trained networks that the targets move, above 0
        and at most 1.
    - `options`: by keyword, `num_envs` (by default 1), `num_steps` (1),
        `gradient_steps` (1), `buffer_size` (100,000), `batch_size` (256),
        `learning_starts` (1000), `learning_rate` (1e-3), `gamma` (0.99),
        `normalize_obs`, `train_steps`, `record`, `callbacks`, `logger`, `progress_bar`
        and `compiler_options`, which `OffPolicyOptions` describes.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Source: S. Fujimoto et al., Addressing Function Approximation Error in Actor-Critic
    Methods, arXiv:1802.09477.
    """

    actor: Any
    critic: Any
    num_critics: int = eqx.field(static=True)
    policy_delay: int = eqx.field(static=True)
    exploration_noise: Float[Array, ""]
    target_noise: Float[Array, ""]
    noise_clip: Float[Array, ""]
    tau: Float[Array, ""]

    @arguments(
        {**OFF_POLICY_DEFAULTS, **_OWN},
        actor=a_network,
        critic=a_network,
        num_critics=whole(),
        policy_delay=whole(),
        exploration_noise=number(0.0),
        target_noise=number(0.0),
        noise_clip=number(0.0),
        tau=number(above=0.0, most=1.0),
        **OFF_POLICY_CHECKS,
    )
    def __init__(
        self,
        env: Any,
        total_timesteps: Count | None = None,
        *,
        actor: Network | None = None,
        critic: Network | None = None,
        num_critics: Count = 2,
        policy_delay: Count = 2,
        exploration_noise: ArrayLike = 0.1,
        target_noise: ArrayLike = 0.2,
        noise_clip: ArrayLike = 0.5,
        tau: ArrayLike = 0.005,
        **options: Unpack[OffPolicyOptions],
    ):
        task = env_task(env)
        self.actor = actor
        self.critic = critic
        self.num_critics = int(num_critics)
        self.policy_delay = int(policy_delay)
        self.exploration_noise = leaf(exploration_noise)
        self.target_noise = leaf(target_noise)
        self.noise_clip = leaf(noise_clip)
        self.tau = leaf(tau)
        bounds = bounds_of(task, "TD3")
        super().__init__(task, total_timesteps, bounds, options, _OWN)

    def nets(self, key: PRNGKeyArray) -> TD3Nets:
        """Return the networks before the first batch, and targets equal to them."""
        actor_key, critic_key = split(key)
        actor = Learned.new(self._policy(actor_key), "`actor` of `TD3`")
        stacked = action_critics(
            self.env, self.critic, self.num_critics, self.bounds.size, critic_key
        )
        critics = Learned.new(stacked, "`critic` of `TD3`")
        loss = jnp.zeros((), jnp.result_type(float))
        return TD3Nets(actor, critics, actor.trained, critics.trained, loss)

    def explorer(self, nets: TD3Nets, step: Any) -> BasePolicy[Any]:
        """Return the policy that plays with noise."""
        del step
        policy = nets.actor.network
        return NoisyPolicy(policy, self.exploration_noise, self.bounds)

    def learn(
        self, nets: TD3Nets, batch: Replayed, key: PRNGKeyArray, count: Array
    ) -> tuple[TD3Nets, Any]:
        """Make a step of the critics, and of policy and targets if it is their turn."""
        low, high = self.bounds.arrays
        noise = self.target_noise * jr.normal(quick(key), batch.action.shape)
        noise = jnp.clip(noise, -self.noise_clip, self.noise_clip) * (high - low) / 2
        action = actions_of(nets.actor.at(nets.target_actor), batch.next_obs)
        action = jnp.clip(action + noise, low, high)
        target = nets.critics.at(nets.target_critics)
        following = jnp.min(scalar_values(target, batch.next_obs, action), axis=0)
        goal = batch.reward + batch.discount * following

        def value_loss(stacked: Any) -> tuple[Array, Any]:
            estimates = scalar_values(stacked, batch.obs, batch.action)
            return critic_loss(batch, estimates, goal)

        critics, report, norm = nets.critics.step(value_loss, self.learning_rate)

        def policy_loss(policy: BoundedPolicy) -> tuple[Array, Array]:
            action = actions_of(policy, batch.obs)
            one = first_critic(critics.network)
            loss = -batch.mean(scalar_values(one, batch.obs, action)[0])
            return loss, loss

        def improve() -> TD3Nets:
            actor, loss, _ = nets.actor.step(policy_loss, self.learning_rate)
            return TD3Nets(
                actor,
                critics,
                toward(nets.target_actor, actor.trained, self.tau),
                toward(nets.target_critics, critics.trained, self.tau),
                loss,
            )

        def keep() -> TD3Nets:
            return TD3Nets(
                nets.actor,
                critics,
                nets.target_actor,
                nets.target_critics,
                nets.policy_loss,
            )

        if self.policy_delay == 1:
            after = improve()
        else:
            after = jax.lax.cond(count % self.policy_delay == 0, improve, keep)
        return after, {**report, "grad_norm": norm, "policy_loss": after.policy_loss}

    @property
    def given(self) -> dict[str, Any]:
        """The networks as given."""
        return {"actor": self.actor, "critic": self.critic}

    def _policy(self, key: PRNGKeyArray) -> BoundedPolicy:
        size = self.bounds.size
        network = policy_network(
            self.env,
            "actor",
            self.actor,
            BoundedPolicy,
            lambda obs, key: relu_mlp(obs, size, 256, key),
            key,
        )
        what = "one number for each component of the action"
        check_scores(self.env, "actor", network, size, what)
        return BoundedPolicy(network, self.bounds)


def actions_of(policy: BasePolicy[Any], obs: Tree) -> Float[Array, "batch actions"]:
    """Return a policy's actions for a batch of observations."""
    return jax.vmap(lambda one: output_of(policy, one))(obs)


@arguments(
    {**OFF_POLICY_DEFAULTS, **_OWN},
    actor=a_network,
    critic=a_network,
    exploration_noise=number(0.0),
    tau=number(above=0.0, most=1.0),
    **OFF_POLICY_CHECKS,
)
def DDPG(
    env: Any,
    total_timesteps: Count | None = None,
    *,
    actor: Network | None = None,
    critic: Network | None = None,
    exploration_noise: ArrayLike = 0.1,
    tau: ArrayLike = 0.005,
    **options: Unpack[OffPolicyOptions],
) -> TD3:
    """Return a `TD3` without its three additions: deep deterministic policy gradients.

    It has one critic, moves policy and targets at every batch, and the targets' actions
    have no noise.

    **Arguments:**

    - `env`, `total_timesteps`, `actor`, `critic`, `exploration_noise`, `tau`,
        `options`: as for `TD3`.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Source: T. Lillicrap et al., Continuous control with deep reinforcement learning,
    arXiv:1509.02971.
    """
    updates_of("DDPG", total_timesteps, options.get("train_steps"), 1)
    return TD3(
        env,
        total_timesteps,
        actor=actor,
        critic=critic,
        num_critics=1,
        policy_delay=1,
        exploration_noise=exploration_noise,
        target_noise=0.0,
        tau=tau,
        **options,
    )
