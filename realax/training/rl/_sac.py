"""Soft actor-critic, for continuous actions and for choices."""

import math
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Float

from ..._arguments import Count, arguments, flag, number, optional, whole
from ..._keys import quick, split
from ..._types import PRNGKeyArray, Tree
from ...policies import (
    AbstractHead,
    BasePolicy,
    Categorical,
    StochasticPolicy,
    TanhNormalHead,
)
from .._gradient_guard import GradientGuard
from ._checks import env_task, network as a_network
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
from ._spaces import bounds_of, choice_of, score_bounds
from ._transitions import Replayed
from ._value_networks import (
    action_critics,
    check_scores,
    critic_loss,
    critics,
    policy_network,
    relu_mlp,
    scalar_values,
    taken,
    values,
)


_OWN: OffPolicyOptions = {"learning_rate": 1e-3}


class SACMetrics(EpisodeMetrics):
    """Metrics of each step of SAC, beside those of every learner.

    - `value_loss`: the mean loss of the critics, before each step.
    - `mean_value`: the mean estimate of the first critic for the stored actions.
    - `policy_loss`: the loss of the policy before its step.
    - `entropy`: the mean entropy of the policy.
    - `temperature`: the weight of the entropy.
    """

    value_loss: Float[Array, ""]
    mean_value: Float[Array, ""]
    policy_loss: Float[Array, ""]
    entropy: Float[Array, ""]
    temperature: Float[Array, ""]


class SoftActor(eqx.Module):
    """A policy, and the weight of its entropy.

    - `policy`: the policy.
    - `log_temperature`: the logarithm of that weight.
    """

    policy: StochasticPolicy
    log_temperature: Float[Array, ""]


class SACNets(AbstractNets):
    """The networks of SAC.

    - `actor`: the policy in training, and the weight of its entropy.
    - `critics`: the critics in training.
    - `target_critics`: the arrays of those that give the targets.
    """

    actor: Learned[SoftActor]
    critics: Learned[Any]
    target_critics: Tree

    @property
    def policy(self) -> BasePolicy[Any]:
        """The policy after the last batch."""
        return self.actor.network.policy

    @property
    def guards(self) -> tuple[GradientGuard, ...]:
        """The guards of the critics and of the policy."""
        return self.critics.guard, self.actor.guard


class SAC(AbstractOffPolicy[SACNets, SACMetrics]):
    """Trains a stochastic policy for large returns and a large entropy.

    Critics estimate the return of an action, to which the entropy of later actions adds
    `temperature` times its value. They learn from random steps of the latest
    `buffer_size`, by the smallest value of slowly following critics. Nothing follows a
    termination; after an episode that was cut off by a time limit, the value of its
    last observation does.

    **Arguments:**

    - `env`: the name of an environment, an `EnvTask`, or an environment of any suite.
        Its actions are continuous, between finite bounds, or one discrete choice.
    - `total_timesteps`: how many steps to play, of all environments together, with the
        random ones before learning starts.
    - `actor`: a module from an observation to scores: for continuous actions the means
        and then as many numbers for the deviations, see `TanhNormalHead`; for a choice
        its logits. A function `(key) -> module` gives each seed its own start. A policy
        that was trained before, a `NormalizedPolicy` included, goes on. By default, two
        hidden layers of 256 with rectifiers.
    - `critic`: a function `(key) -> module`, where the module maps `(obs, action)` to a
        value, which `rx.ActionValue` makes of a module that takes one vector; for a
        choice, the module maps an observation to a value of each action. By default,
        two hidden layers of 256 with rectifiers.
    - `num_critics`: how many critics there are.
    - `temperature`: the weight of the entropy with which training begins.
    - `tune_temperature`: whether the weight is trained, so that the mean entropy comes
        close to `target_entropy`.
    - `target_entropy`: by default, minus the number of components of the action; for a
        choice, 0.89 of the largest entropy.
    - `tau`: the share of the way to the trained critics that those of the targets move
        at each batch, above 0 and at most 1.
    - `options`: by keyword, `num_envs` (by default 1), `num_steps` (1),
        `gradient_steps` (1), `buffer_size` (100,000), `batch_size` (256),
        `learning_starts` (1000), `learning_rate` (1e-3), `gamma` (0.99),
        `normalize_obs`, `train_steps`, `record`, `callbacks`, `logger`, `progress_bar`
        and `compiler_options`, which `OffPolicyOptions` describes.

    `params(state)` plays the mode of its distribution; `dataclasses.replace(policy,
    sample=True)` plays samples.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Sources: T. Haarnoja et al., Soft Actor-Critic Algorithms and Applications,
    arXiv:1812.05905; for choices P. Christodoulou, Soft Actor-Critic for Discrete
    Action Settings, arXiv:1910.07207.
    """

    actor: Any
    critic: Any
    num_critics: int = eqx.field(static=True)
    temperature: Float[Array, ""]
    tune_temperature: bool = eqx.field(static=True)
    target_entropy: Float[Array, ""]
    tau: Float[Array, ""]
    head: AbstractHead = eqx.field(static=True, init=False)

    @arguments(
        {**OFF_POLICY_DEFAULTS, **_OWN},
        actor=a_network,
        critic=a_network,
        num_critics=whole(),
        temperature=number(above=0.0),
        tune_temperature=flag,
        target_entropy=optional(number()),
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
        temperature: ArrayLike = 1.0,
        tune_temperature: bool = True,
        target_entropy: ArrayLike | None = None,
        tau: ArrayLike = 0.005,
        **options: Unpack[OffPolicyOptions],
    ):
        task = env_task(env)
        if task.action_layout.chooses:
            self.head = choice_of(task, "SAC")
            bounds = score_bounds(self.head.size)
            # As in CleanRL. The paper's 0.98 leaves two actions nearly equally likely.
            usual = 0.89 * math.log(self.head.size)
        else:
            bounds = bounds_of(task, "SAC")
            self.head = TanhNormalHead(bounds)
            usual = -bounds.size
        self.actor = actor
        self.critic = critic
        self.num_critics = int(num_critics)
        self.temperature = leaf(temperature)
        self.tune_temperature = tune_temperature
        self.target_entropy = leaf(usual if target_entropy is None else target_entropy)
        self.tau = leaf(tau)
        super().__init__(task, total_timesteps, bounds, options, _OWN)

    def nets(self, key: PRNGKeyArray) -> SACNets:
        """Return the networks before the first batch, and targets equal to them."""
        actor_key, critic_key = split(key)
        actor = SoftActor(self._policy(actor_key), jnp.log(self.temperature))
        found = Learned.new(self._critics(critic_key), "`critic` of `SAC`")
        learned = Learned.new(actor, "`actor` of `SAC`")
        return SACNets(learned, found, found.trained)

    def explorer(self, nets: SACNets, step: Any) -> BasePolicy[Any]:
        """Return the policy that plays samples."""
        del step
        policy = nets.actor.network.policy
        return StochasticPolicy(policy.network, policy.head, sample=True)

    def learn(
        self, nets: SACNets, batch: Replayed, key: PRNGKeyArray, count: Array
    ) -> tuple[SACNets, Any]:
        """Make a step of the critics, then one of the policy, and move the targets."""
        del count
        next_key, key = split(key)
        actor = nets.actor.network
        temperature = jnp.exp(actor.log_temperature)
        target = nets.critics.at(nets.target_critics)
        value, entropy = self._soft(actor.policy, target, batch.next_obs, next_key)
        goal = batch.reward + batch.discount * (value + temperature * entropy)

        def value_loss(stacked: Any) -> tuple[Array, Any]:
            if self.action_values:
                estimates = scalar_values(stacked, batch.obs, batch.action)
            else:
                estimates = taken(values(stacked, batch.obs), batch.action[None])
            return critic_loss(batch, estimates, goal)

        found, report, norm = nets.critics.step(value_loss, self.learning_rate)

        def policy_loss(actor: SoftActor) -> tuple[Array, Any]:
            value, entropy = self._soft(actor.policy, found.network, batch.obs, key)
            loss = -batch.mean(value + temperature * entropy)
            tuned = 0.0
            if self.tune_temperature:
                excess = batch.mean(entropy - self.target_entropy)
                tuned = actor.log_temperature * jax.lax.stop_gradient(excess)
            report = {"policy_loss": loss, "entropy": batch.mean(entropy)}
            return loss + tuned, report

        learned, more, _ = nets.actor.step(policy_loss, self.learning_rate)
        moved = toward(nets.target_critics, found.trained, self.tau)
        metrics = {**report, **more, "grad_norm": norm, "temperature": temperature}
        return SACNets(learned, found, moved), metrics

    @property
    def given(self) -> dict[str, Any]:
        """The networks as given."""
        return {"actor": self.actor, "critic": self.critic}

    @property
    def action_values(self) -> bool:
        """True if critics get the action, and not a score for each."""
        return isinstance(self.head, TanhNormalHead)

    def _soft(
        self, policy: StochasticPolicy, stacked: Any, obs: Tree, key: PRNGKeyArray
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Return the smallest values of the policy's actions, and its entropies.

        Those of continuous actions are estimated by one sample.
        """
        found: Any = jax.vmap(lambda one: policy.distribution(one, None)[0])(obs)
        if isinstance(found, Categorical):
            logits = found.logits.reshape(len(found.logits), -1)
            log_p = jax.nn.log_softmax(logits)
            p = jnp.exp(log_p)
            least = jnp.min(values(stacked, obs), axis=0)
            return jnp.sum(p * least, axis=-1), -jnp.sum(p * log_p, axis=-1)
        noise = jr.normal(quick(key), found.mean.shape, found.low.dtype)
        sample = jax.vmap(lambda one, noise: one.sample_and_log_prob_by(noise))
        action, log_prob = sample(found, noise)
        return jnp.min(scalar_values(stacked, obs, action), axis=0), -log_prob

    def _policy(self, key: PRNGKeyArray) -> StochasticPolicy:
        size = self.head.size
        network = policy_network(
            self.env,
            "actor",
            self.actor,
            StochasticPolicy,
            lambda obs, key: relu_mlp(obs, size, 256, key),
            key,
        )
        what = "the logits of a choice"
        if self.action_values:
            what = "a mean for each component of the action, and as many deviations"
        check_scores(self.env, "actor", network, size, what)
        return StochasticPolicy(network, self.head)

    def _critics(self, key: PRNGKeyArray) -> Any:
        if self.action_values:
            size = self.head.size // 2
            return action_critics(self.env, self.critic, self.num_critics, size, key)
        actions = self.head.size
        return critics(
            self.env,
            self.critic,
            lambda size, key: relu_mlp(size, actions, 256, key),
            self.num_critics,
            (self.env.obs_shape,),
            (actions,),
            key,
        )
