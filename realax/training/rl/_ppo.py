"""Proximal policy optimisation."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ..._arguments import Count, arguments, flag, number, optional, whole
from ..._errors import check_key
from ..._frozen import Frozen
from ..._keys import split
from ..._template import Template
from ..._trees import strong, with_fields
from ..._types import EXECUTION, PRNGKeyArray, Tree
from ...policies import (
    AbstractHead,
    ActorCritic,
    BasePolicy,
    Explorer,
    NormalizedPolicy,
    ObsStats,
)
from ...tasks import EnvTask, Experience, Stream
from ...tasks._shuffle import shuffles
from .._callbacks import Callbacks, CallbacksLike
from .._derivative import value_and_grad
from .._devices import on_every_device, put_on_every_device, summed
from .._gradient_guard import GradientGuard
from .._options import frozen_options
from ..observers import Logger
from ._batch import Batch, batch_of
from ._checks import RL_CHECKS, check_given, env_task, network, updates_of
from ._collect import begun, collected
from ._episodes import EpisodeMeans
from ._gradient_step import adam, annealed
from ._learner import AbstractLearner, bound, leaf, normalized, normalizes
from ._minibatches import minibatch_steps
from ._networks import Network, build, fits_head
from ._ppo_checks import check_sizes
from ._ppo_loss import Losses, ppo_loss
from ._reward_scale import RewardScale
from ._state import PPOMetrics, PPOState


class PPO(AbstractLearner[PPOState, PPOMetrics]):
    """Trains a policy by proximal policy optimisation.

    Each step of the trainer is an update: `num_steps` steps of each of `num_envs`
    environments are played by samples of the policy, and then learned from in
    `update_epochs` passes of `num_minibatches` minibatches each. Environments go on
    from update to update. The value of the final observation is used after an episode
    that was cut off by a time limit, and none after one that terminated.

    **Arguments:**

    - `env`: the name of an environment, an `EnvTask`, or an environment of any suite.
    - `total_timesteps`: how many steps to play, of all environments together. The
        number of updates is rounded up.
    - `num_envs`: how many environments are played side by side.
    - `num_steps`: how many steps of each are played for an update.
    - `update_epochs`: how many passes an update makes through them.
    - `num_minibatches`: into how many minibatches each pass is divided. Steps are
        shuffled; for a recurrent network, environments are.
    - `learning_rate`: of Adam, whose epsilon is 1e-5.
    - `anneal_lr`: whether the learning rate falls linearly to 0 in the course of
        `train_steps` updates. Two runs of half the length are then not one of the
        whole.
    - `gamma`: the discount of a step.
    - `gae_lambda`: the decay of the advantage estimates, see `advantages`.
    - `clip_eps`: how far the ratio of new and old probabilities may be from 1.
    - `value_clip`: how far the critic's estimate may move in an update; `None`: any
        distance. It is in the unit of returns, and so only of use with scaled rewards.
    - `vf_coef`, `ent_coef`: the weights of the critic's loss and of the entropy.
    - `max_grad_norm`: longer gradients are shortened to this length.
    - `normalize_advantages`: whether advantages have mean 0 and deviation 1 in each
        minibatch.
    - `normalize_obs`: whether observations are normalised by their running mean and
        variance; also on if that of the task is, or if the policy did before.
    - `scale_rewards`: whether rewards are divided by the deviation of the discounted
        return so far, and clipped at 10. Metrics show the environment's own.
    - `actor`: a module from an observation to scores: the logits of discrete choices,
        the means of continuous actions; with two heads, to `(scores, value)`. A
        `BasePolicy` whose output is the scores may be recurrent. A policy that was
        trained before, a `NormalizedPolicy` included, goes on. A function
        `(key) -> module` gives each seed its own start. By default, a tanh network of
        two hidden layers of 64, with orthogonal weights.
    - `critic`: a module from an observation to a value, or a function as for `actor`.
        By default, a tanh network as above, whichever the actor is; it has no memory.
    - `log_std`: the logarithm of the deviation of continuous actions, with which
        training begins. It is trained, and does not depend on the observation. A policy
        given as `actor` keeps its own.
    - `n_devices`: over how many devices environments and minibatches are divided;
        gradients are averaged. Keys do not depend on it.
    - `train_steps`: the number of updates, in place of `total_timesteps`.
    - `record`: what to keep of each state beside the metrics, as `data["record"]`.
    - `callbacks`: one observer, or several.
    - `logger`: a `Logger`, added to `callbacks`.
    - `progress_bar`: whether to show one.
    - `compiler_options`: XLA's options for whole runs, values by name; by default those
        of the task, or what suits small batches.

    `params(state)` plays the mode of its distribution; `dataclasses.replace(policy,
    sample=True)` plays samples.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Source: J. Schulman et al., Proximal Policy Optimization Algorithms,
    arXiv:1707.06347.
    """

    env: EnvTask[Any]
    train_steps: int
    num_envs: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    update_epochs: int = eqx.field(static=True)
    num_minibatches: int = eqx.field(static=True)
    learning_rate: Float[Array, ""]
    anneal_lr: bool = eqx.field(static=True)
    gamma: Float[Array, ""]
    gae_lambda: Float[Array, ""]
    clip_eps: Float[Array, ""]
    value_clip: Float[Array, ""] | None
    vf_coef: Float[Array, ""]
    ent_coef: Float[Array, ""]
    max_grad_norm: Float[Array, ""]
    normalize_advantages: bool = eqx.field(static=True)
    normalize_obs: bool = eqx.field(static=True)
    scale_rewards: bool = eqx.field(static=True)
    actor: Any
    critic: Any
    log_std: Float[Array, ""]
    n_devices: int = eqx.field(static=True, metadata=EXECUTION)
    record: Callable[[PPOState], Tree] | None
    callbacks: Callbacks
    compiler_options: Frozen | None = eqx.field(static=True)

    @arguments(
        num_steps=whole(),
        update_epochs=whole(),
        num_minibatches=whole(),
        anneal_lr=flag,
        gae_lambda=number(0.0, most=1.0),
        clip_eps=number(above=0.0),
        value_clip=optional(number(above=0.0)),
        vf_coef=number(0.0),
        ent_coef=number(0.0),
        max_grad_norm=number(above=0.0),
        normalize_advantages=flag,
        scale_rewards=flag,
        actor=network,
        critic=network,
        log_std=number(),
        n_devices=whole(),
        **RL_CHECKS,
    )
    def __init__(
        self,
        env: Any,
        total_timesteps: Count | None = None,
        num_envs: Count = 16,
        num_steps: Count = 128,
        update_epochs: Count = 4,
        num_minibatches: Count = 4,
        *,
        learning_rate: ArrayLike = 1e-3,
        anneal_lr: bool = False,
        gamma: ArrayLike = 0.99,
        gae_lambda: ArrayLike = 0.95,
        clip_eps: ArrayLike = 0.2,
        value_clip: ArrayLike | None = None,
        vf_coef: ArrayLike = 0.5,
        ent_coef: ArrayLike = 0.01,
        max_grad_norm: ArrayLike = 0.5,
        normalize_advantages: bool = True,
        normalize_obs: bool = False,
        scale_rewards: bool = False,
        actor: Network | None = None,
        critic: Network | None = None,
        log_std: ArrayLike = 0.0,
        n_devices: Count = 1,
        train_steps: Count | None = None,
        record: Callable[[PPOState], Tree] | None = None,
        callbacks: CallbacksLike = (),
        logger: Logger | None = None,
        progress_bar: bool = False,
        compiler_options: Mapping[str, Any] | None = None,
    ):
        self.env = env_task(env)
        self.num_envs = int(num_envs)
        self.num_steps = int(num_steps)
        self.train_steps = updates_of(
            "PPO", total_timesteps, train_steps, self.num_envs * self.num_steps
        )
        self.update_epochs = int(update_epochs)
        self.num_minibatches = int(num_minibatches)
        self.learning_rate = leaf(learning_rate)
        self.anneal_lr = anneal_lr
        self.gamma = leaf(gamma)
        self.gae_lambda = leaf(gae_lambda)
        self.clip_eps = leaf(clip_eps)
        self.value_clip = None if value_clip is None else leaf(value_clip)
        self.vf_coef = leaf(vf_coef)
        self.ent_coef = leaf(ent_coef)
        self.max_grad_norm = leaf(max_grad_norm)
        self.normalize_advantages = normalize_advantages
        self.scale_rewards = scale_rewards
        self.actor = actor
        self.critic = critic
        self.normalize_obs = normalizes(self, normalize_obs)
        self.log_std = leaf(log_std)
        self.n_devices = int(n_devices)
        self.record = record
        self.callbacks = Callbacks.of(callbacks, logger, progress_bar)
        self.compiler_options = frozen_options(compiler_options, "PPO")
        check_given(self)
        check_sizes(self)

    def placed(self, tree: Tree) -> Tree:
        """Return `tree` with its arrays whole on each of the `n_devices`."""
        return put_on_every_device(tree, self.n_devices)

    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> PPOState:
        """Return the state with new networks and environments, before the first update.

        **Arguments:**

        - `key`: splits into that of the networks and that of the environments, of which
            each has a key of its own.
        - `data`: not used.
        """
        check_key(key)
        del data
        net_key, env_key = split(key)
        model = self.model(net_key)
        template = Template(model, "the networks of `PPO`")
        trained, rest = template.split(model)
        trained = strong(trained)
        stats = self.first_stats
        player = self.player(template.join(trained, rest), stats)
        streams = begun(self.env, player, env_key, self.num_envs)
        state = PPOState(
            step=jnp.zeros((), jnp.int32),
            trained=trained,
            opt_state=strong(adam(self.learning_rate).init(trained)),
            guard=GradientGuard.new(),
            streams=streams,
            obs_stats=stats,
            reward_scale=RewardScale.new(self.num_envs) if self.scale_rewards else None,
            episodes=EpisodeMeans.unknown(),
            rest=rest,
            template=template,
        )
        return on_every_device(state, self.n_devices)

    def train_step(
        self, state: PPOState, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[PPOState, PPOMetrics]:
        """Make one update: collect experience, and learn from it."""
        del data
        streams, rows = self.collect(state)
        batch, reward_scale, stats = self.prepare(state, rows)
        (trained, opt_state), guard, losses, norm = self.learn(state, batch, key)
        episodes, count = state.episodes.after(state.streams, rows)
        after = with_fields(
            state,
            trained=trained,
            opt_state=opt_state,
            guard=guard,
            streams=streams,
            obs_stats=stats,
            reward_scale=reward_scale,
            episodes=episodes,
        )
        return on_every_device(after, self.n_devices), PPOMetrics(
            episode_return=episodes.total,
            episode_length=episodes.length,
            episodes=count,
            failed=jnp.sum(rows.failed),
            policy_loss=losses.policy,
            value_loss=losses.value,
            entropy=losses.entropy,
            approx_kl=losses.approx_kl,
            clip_fraction=losses.clip_fraction,
            explained_variance=batch.explained_variance(),
            grad_norm=norm,
            skipped=guard.skipped,
        )

    def collect(self, state: PPOState) -> tuple[Stream, Experience]:
        """Play `num_steps` steps of each environment by samples of the policy.

        **Returns:** The environments after them, and the experience with the leading
        axes `(steps, envs)`.
        """
        player = self.player(state.model, state.obs_stats)
        return collected(
            self.env, player, state.streams, self.num_steps, self.n_devices
        )

    def prepare(
        self, state: PPOState, rows: Experience
    ) -> tuple[Batch, RewardScale | None, ObsStats | None]:
        """Compute advantages and returns.

        **Arguments:**

        - `state`: the state in which the experience was collected.
        - `rows`: the experience.

        **Returns:** The batch to learn from, by sequence, and the statistics of rewards
        and of observations with this experience.
        """
        obs, next_obs, stats = normalized(state.obs_stats, rows)
        rewards, scale = jnp.where(rows.failed, 0.0, rows.reward), state.reward_scale
        if scale is not None:
            rewards, scale = scale.scaled(rewards, rows.over, self.gamma)
        batch = batch_of(
            state.model, rows, obs, next_obs, rewards, self.gamma, self.gae_lambda
        )
        return batch, scale, stats

    def learn(
        self, state: PPOState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[tuple[Tree, Tree], GradientGuard, Losses, Float[Array, ""]]:
        """Pass through the batch `update_epochs` times, minibatch by minibatch.

        **Arguments:**

        - `state`: the state in which the experience was collected.
        - `batch`: from `prepare`.
        - `key`: decides the order of the sequences.

        **Returns:** The trained arrays and the optimiser's state, the guard, and the
        means over the minibatches of the losses and of the gradient's length.
        """
        rate, longest = self._rate(state.step), self.max_grad_norm
        orders = shuffles(key, self.update_epochs, len(batch.fresh))
        after, guard, (losses, norm) = minibatch_steps(
            lambda trained, rows: self._gradient(state, trained, rows),
            adam(rate, 1e-5),
            (state.trained, state.opt_state),
            state.guard,
            batch,
            orders.reshape(self.update_epochs, self.num_minibatches, -1),
            longest,
            jnp.isfinite(rate) & ~jnp.isnan(longest),
        )
        return after, guard, Losses(*losses), norm

    def _gradient(
        self, state: PPOState, trained: Tree, rows: Batch
    ) -> tuple[tuple[Float[Array, ""], Float[Array, "5"]], Tree]:
        """Return the loss of a minibatch and its gradient, summed over the devices."""
        if self.normalize_advantages:
            rows = rows.normalized()
        total = jnp.maximum(jnp.sum(rows.weight), 1.0)

        def part(rows: Batch, whole: Any) -> Any:
            trained, rest, trainer, total = whole

            def loss(trained: Tree) -> Any:
                model = state.template.join(trained, rest)
                return ppo_loss(model, rows, total, trainer, model.recurrent)

            return value_and_grad(loss)(trained)

        return summed(part, rows, (trained, state.rest, self, total), self.n_devices)

    def model(self, key: PRNGKeyArray) -> ActorCritic:
        """Return the actor and critic with which training begins, without statistics.

        **Arguments:**

        - `key`: initialises the networks that are not given as modules.
        """
        actor = self.actor
        if isinstance(actor, NormalizedPolicy):
            actor = actor.policy
        return build(self.env, actor, self.critic, self._head, key)

    def params(self, state: PPOState) -> BasePolicy[Any]:
        """Return the policy after the last update."""
        return state.params

    @property
    def batch_steps(self) -> int:
        """The number of steps in a minibatch."""
        return self.num_envs * self.num_steps // self.num_minibatches

    @property
    def given(self) -> dict[str, Any]:
        """The networks as given."""
        return {"actor": self.actor, "critic": self.critic}

    def player(self, model: ActorCritic, stats: ObsStats | None) -> BasePolicy[Any]:
        """Return the policy that collects experience: samples, with their extras.

        **Arguments:**

        - `model`: the actor and critic.
        - `stats`: the statistics of observations, if they are normalised.
        """
        return bound(Explorer(model, fits_head(model, self._head)), stats)

    @property
    def _head(self) -> AbstractHead:
        return self.env.action_layout.head(self.log_std)

    def _rate(self, step: Any) -> Float[Array, ""]:
        if not self.anneal_lr:
            return self.learning_rate
        return annealed(self.learning_rate, step, self.train_steps)
