"""Parallelised Q-learning, without a replay buffer or a target network."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Float

from ..._arguments import Count, arguments, flag, number, whole
from ..._errors import check_key
from ..._frozen import Frozen
from ..._keys import split
from ..._trees import with_fields
from ..._types import PRNGKeyArray, Step, Tree
from ...policies import (
    BasePolicy,
    EpsilonGreedy,
    GreedyPolicy,
    ObsStats,
)
from ...tasks import EnvTask, Experience, Stream
from ...tasks._shuffle import shuffles
from .._callbacks import Callbacks, CallbacksLike
from .._gradient_guard import GradientGuard
from .._options import frozen_options
from ..observers import Logger
from ._checks import (
    RL_CHECKS,
    check_given,
    check_minibatches,
    env_task,
    network as a_network,
    play_one_step,
    updates_of,
)
from ._collect import begun, collected
from ._dqn import DQNMetrics, scores_of
from ._episodes import EpisodeMeans
from ._epsilon import EPSILON_CHECKS, epsilon_after
from ._gradient_step import annealed
from ._learned import Learned
from ._learner import (
    AbstractLearner,
    AbstractLearnerState,
    bound,
    leaf,
    normalized,
    normalizes,
)
from ._minibatches import over_minibatches
from ._networks import Network
from ._returns import advantages, following_values
from ._spaces import choice_of
from ._value_networks import greedy_policy, layer_norm_mlp, taken
from ._weights import sound, weighted_mean


class PQNState(AbstractLearnerState):
    """State of PQN.

    - `step`: the number of updates so far.
    - `online`: the policy in training.
    - `streams`: the environments, the episodes in progress, and their keys.
    - `obs_stats`: the statistics of observations; `None` without `normalize_obs`.
    - `episodes`: the means over the episodes that ended last.
    """

    step: Step
    online: Learned[GreedyPolicy]
    streams: Stream
    obs_stats: ObsStats | None
    episodes: EpisodeMeans

    @property
    def guards(self) -> tuple[GradientGuard, ...]:
        """The guard of the network."""
        return (self.online.guard,)


class Steps(eqx.Module):
    """Steps that PQN learns from, with a leading axis of steps.

    - `obs`: the observations, as the network gets them.
    - `action`: the actions that were played there.
    - `target`: the returns to be learned.
    - `weight`: 1, or 0 for a step that failed.
    """

    obs: Tree
    action: Array
    target: Float[Array, "*steps"]
    weight: Float[Array, "*steps"]

    def mean(self, numbers: Float[Array, " steps"]) -> Float[Array, ""]:
        """Return the mean over the steps that did not fail."""
        return weighted_mean(numbers, self.weight)


class PQN(AbstractLearner[PQNState, DQNMetrics]):
    """Trains a policy of discrete actions by parallelised Q-learning.

    Each step of the trainer is an update: `num_steps` steps of each of `num_envs`
    environments are played, and then learned from in `update_epochs` passes of
    `num_minibatches` minibatches each. There is no replay buffer and no second network:
    many environments take the place of the one, normalised features of the other.
    Environments go on from update to update. Nothing follows a termination; after an
    episode that was cut off by a time limit, the value of its last observation does.

    **Arguments:**

    - `env`: the name of an environment, an `EnvTask`, or an environment of any suite.
        Its actions are one discrete choice.
    - `total_timesteps`: how many steps to play, of all environments together. The
        number of updates is rounded up.
    - `num_envs`: how many environments are played side by side.
    - `num_steps`: how many steps of each are played for an update.
    - `update_epochs`: how many passes an update makes through them.
    - `num_minibatches`: into how many minibatches each pass is divided.
    - `network`: a module from an observation to a score for each action, or with two
        heads to `(scores, value)`; a function `(key) -> module` gives each seed its own
        start. A policy that was trained before, a `NormalizedPolicy` included, goes on.
        By default, two hidden layers of 64 with normalised features and rectifiers.
    - `td_lambda`: the decay of the weights in the returns that are learned, from one
        reward at 0 to all rewards of the episode at 1.
    - `learning_rate`: of Adam.
    - `anneal_lr`: whether the learning rate falls linearly to 0 in the course of
        `train_steps` updates. Two runs of half the length are then not one of the
        whole.
    - `gamma`: the discount of a step.
    - `epsilon_start`, `epsilon_end`, `epsilon_steps`: the probability of a random
        action falls linearly from the first to the second in so many steps of all
        environments together.
    - `max_grad_norm`: longer gradients are shortened to this length.
    - `normalize_obs`: whether observations are normalised by their running mean and
        variance; also on if that of the task is, or if the policy did before.
    - `train_steps`: the number of updates, in place of `total_timesteps`.
    - `record`: what to keep of each state beside the metrics, as `data["record"]`.
    - `callbacks`: one observer, or several.
    - `logger`: a `Logger`, added to `callbacks`.
    - `progress_bar`: whether to show one.
    - `compiler_options`: XLA's options for whole runs, values by name; by default those
        of the task, or what suits small batches.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Source: M. Gallici et al., Simplifying Deep Temporal Difference Learning,
    arXiv:2407.04811.
    """

    env: EnvTask[Any]
    train_steps: int
    num_envs: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    update_epochs: int = eqx.field(static=True)
    num_minibatches: int = eqx.field(static=True)
    network: Any
    td_lambda: Float[Array, ""]
    learning_rate: Float[Array, ""]
    anneal_lr: bool = eqx.field(static=True)
    gamma: Float[Array, ""]
    epsilon_start: Float[Array, ""]
    epsilon_end: Float[Array, ""]
    epsilon_steps: Float[Array, ""]
    max_grad_norm: Float[Array, ""]
    normalize_obs: bool = eqx.field(static=True)
    record: Callable[[PQNState], Tree] | None
    callbacks: Callbacks
    compiler_options: Frozen | None = eqx.field(static=True)
    actions: int = eqx.field(static=True, init=False)

    @arguments(
        num_steps=whole(),
        update_epochs=whole(),
        num_minibatches=whole(),
        network=a_network,
        td_lambda=number(0.0, most=1.0),
        anneal_lr=flag,
        max_grad_norm=number(above=0.0),
        **EPSILON_CHECKS,
        **RL_CHECKS,
    )
    def __init__(
        self,
        env: Any,
        total_timesteps: Count | None = None,
        num_envs: Count = 32,
        num_steps: Count = 32,
        update_epochs: Count = 4,
        num_minibatches: Count = 8,
        *,
        network: Network | None = None,
        td_lambda: ArrayLike = 0.65,
        learning_rate: ArrayLike = 1e-3,
        anneal_lr: bool = False,
        gamma: ArrayLike = 0.99,
        epsilon_start: ArrayLike = 1.0,
        epsilon_end: ArrayLike = 0.05,
        epsilon_steps: ArrayLike = 50_000,
        max_grad_norm: ArrayLike = 10.0,
        normalize_obs: bool = False,
        train_steps: Count | None = None,
        record: Callable[[PQNState], Tree] | None = None,
        callbacks: CallbacksLike = (),
        logger: Logger | None = None,
        progress_bar: bool = False,
        compiler_options: Mapping[str, Any] | None = None,
    ):
        self.env = env_task(env)
        self.actions = choice_of(self.env, "PQN").size
        self.num_envs = int(num_envs)
        self.num_steps = int(num_steps)
        self.train_steps = updates_of(
            "PQN", total_timesteps, train_steps, self.num_envs * self.num_steps
        )
        self.update_epochs = int(update_epochs)
        self.num_minibatches = int(num_minibatches)
        self.network = network
        self.td_lambda = leaf(td_lambda)
        self.learning_rate = leaf(learning_rate)
        self.anneal_lr = anneal_lr
        self.gamma = leaf(gamma)
        self.epsilon_start = leaf(epsilon_start)
        self.epsilon_end = leaf(epsilon_end)
        self.epsilon_steps = leaf(epsilon_steps)
        self.max_grad_norm = leaf(max_grad_norm)
        self.normalize_obs = normalizes(self, normalize_obs)
        self.record = record
        self.callbacks = Callbacks.of(callbacks, logger, progress_bar)
        self.compiler_options = frozen_options(compiler_options, "PQN")
        check_given(self)
        count = self.num_envs * self.num_steps
        what = "`num_envs` times `num_steps`"
        check_minibatches("PQN", count, what, self.num_minibatches)
        eqx.filter_eval_shape(self._try, jr.key(0))

    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> PQNState:
        """Return the state with a new network and environments, before an update.

        **Arguments:**

        - `key`: splits into that of the network and that of the environments, of which
            each has a key of its own.
        - `data`: not used.
        """
        check_key(key)
        del data
        net_key, env_key = split(key)
        policy = self._policy(net_key)
        step = jnp.zeros((), jnp.int32)
        player = self.player(policy, step, self.first_stats)
        streams = begun(self.env, player, env_key, self.num_envs)
        return PQNState(
            step=step,
            online=Learned.new(policy, "`network` of `PQN`"),
            streams=streams,
            obs_stats=self.first_stats,
            episodes=EpisodeMeans.unknown(),
        )

    def train_step(
        self, state: PQNState, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[PQNState, DQNMetrics]:
        """Make one update: collect experience, and learn from it."""
        del data
        player = self.player(state.online.network, state.step, state.obs_stats)
        streams, rows = collected(self.env, player, state.streams, self.num_steps)
        steps, stats = self.prepare(state, rows)
        orders = shuffles(key, self.update_epochs, len(steps.target))
        orders = orders.reshape(self.update_epochs, self.num_minibatches, -1)

        def minibatch(online: Any, part: Steps) -> tuple[Any, Any]:
            def loss(policy: GreedyPolicy) -> tuple[Array, Any]:
                estimate = taken(scores_of(policy, part.obs), part.action)
                error = part.mean((estimate - part.target) ** 2) / 2
                return error, (error, part.mean(estimate))

            online, report, norm = online.step(
                loss, self._rate(state.step), self.max_grad_norm
            )
            return online, (*report, norm)

        online, report = over_minibatches(minibatch, state.online, steps, orders)
        value_loss, mean_value, norm = report
        episodes, count = state.episodes.after(state.streams, rows)
        after = with_fields(
            state, online=online, streams=streams, obs_stats=stats, episodes=episodes
        )
        return after, DQNMetrics(
            episode_return=episodes.total,
            episode_length=episodes.length,
            episodes=count,
            failed=jnp.sum(rows.failed),
            value_loss=value_loss,
            mean_value=mean_value,
            epsilon=epsilon_after(self, state.step),
            grad_norm=norm,
            skipped=online.guard.skipped,
        )

    def prepare(
        self, state: PQNState, rows: Experience
    ) -> tuple[Steps, ObsStats | None]:
        """Compute the returns to be learned.

        **Arguments:**

        - `state`: the state in which the experience was collected.
        - `rows`: the experience, with the leading axes `(steps, envs)`.

        **Returns:** The steps to learn from, and the statistics of observations with
        this experience.
        """
        policy = state.online.network
        obs, next_obs, stats = normalized(state.obs_stats, rows)

        def best(obs: Tree) -> Float[Array, "steps envs"]:
            # As one batch: over two axes, layer normalisation takes five times as long.
            flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), obs)
            scores = scores_of(policy, flat)
            return jnp.max(scores, axis=-1).reshape(-1, self.num_envs)

        value = jnp.max(rows.extras["scores"], axis=-1)
        next_value = following_values(value, rows, next_obs, best)
        # The returns of a value function are its advantages and itself.
        target = value + advantages(
            jnp.where(rows.failed, 0.0, rows.reward),
            value,
            next_value,
            rows.terminated,
            rows.over,
            rows.failed,
            self.gamma,
            self.td_lambda,
        )

        (action,) = jax.tree.leaves(rows.action)
        steps = Steps(
            obs=sound(rows.failed, obs),
            action=action.reshape(rows.reward.shape),
            target=sound(rows.failed, target),
            weight=(~rows.failed).astype(target.dtype),
        )
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps), stats

    def params(self, state: PQNState) -> BasePolicy[Any]:
        """Return the policy after the last update."""
        return bound(state.online.network, state.obs_stats)

    @property
    def batch_steps(self) -> int:
        """The number of steps in a minibatch."""
        return self.num_envs * self.num_steps // self.num_minibatches

    @property
    def given(self) -> dict[str, Any]:
        """The network as given."""
        return {"network": self.network}

    def player(
        self, policy: GreedyPolicy, step: Any, stats: ObsStats | None
    ) -> BasePolicy[Any]:
        """Return the policy that collects experience.

        **Arguments:**

        - `policy`: the policy in training.
        - `step`: the number of updates before.
        - `stats`: the statistics of observations, if they are normalised.
        """
        explorer = EpsilonGreedy(policy, epsilon_after(self, step), self.actions)
        return bound(explorer, stats)

    def _policy(self, key: PRNGKeyArray) -> GreedyPolicy:
        return greedy_policy(
            self.env,
            self.network,
            lambda size, key: layer_norm_mlp(size, self.actions, 64, key),
            self.actions,
            key,
        )

    def _try(self, key: PRNGKeyArray) -> Any:
        """Tracing it refuses networks and environments that do not fit."""
        step = jnp.zeros((), jnp.int32)
        player = self.player(self._policy(key), step, self.first_stats)
        return play_one_step(self.env, player, key)

    def _rate(self, step: Any) -> Float[Array, ""]:
        if not self.anneal_lr:
            return self.learning_rate
        return annealed(self.learning_rate, step, self.train_steps)
