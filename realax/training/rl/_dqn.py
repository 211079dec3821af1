"""Deep Q-learning."""

from typing import Any, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ..._arguments import Count, arguments, flag, number, whole
from ..._types import PRNGKeyArray, Tree
from ...policies import BasePolicy, EpsilonGreedy, GreedyPolicy
from .._gradient_guard import GradientGuard
from ._checks import env_task, network as a_network
from ._episodes import EpisodeMetrics
from ._epsilon import EPSILON_CHECKS, epsilon_after
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
from ._spaces import choice_of, score_bounds
from ._transitions import Replayed
from ._value_networks import dueling_mlp, greedy_policy, output_of, relu_mlp, taken


_OWN: OffPolicyOptions = {"num_steps": 4, "batch_size": 128, "learning_rate": 5e-4}


class DQNMetrics(EpisodeMetrics):
    """Metrics of each step of DQN, beside those of every learner.

    - `value_loss`: the mean loss of the batches, before each one's step.
    - `mean_value`: the mean estimate of the returns of their actions.
    - `epsilon`: the probability of a random action.
    """

    value_loss: Float[Array, ""]
    mean_value: Float[Array, ""]
    epsilon: Float[Array, ""]


class QNets(AbstractNets):
    """The network of DQN.

    - `online`: the policy in training.
    - `target`: the arrays of the one that gives the targets.
    """

    online: Learned[GreedyPolicy]
    target: Tree

    @property
    def policy(self) -> BasePolicy[Any]:
        """The policy after the last batch."""
        return self.online.network

    @property
    def guards(self) -> tuple[GradientGuard, ...]:
        """The guard of the network."""
        return (self.online.guard,)


class DQN(AbstractOffPolicy[QNets, DQNMetrics]):
    """Trains a policy of discrete actions by deep Q-learning.

    The network estimates the return of each action. It learns from random steps of the
    latest `buffer_size`, by the target `reward + gamma * value` of a second network
    that follows it. Nothing follows a termination; after an episode that was cut off by
    a time limit, the value of its last observation does.

    **Arguments:**

    - `env`: the name of an environment, an `EnvTask`, or an environment of any suite.
        Its actions are one discrete choice.
    - `total_timesteps`: how many steps to play, of all environments together, with the
        random ones before learning starts.
    - `network`: a module from an observation to a score for each action, or with two
        heads to `(scores, value)`; a function `(key) -> module` gives each seed its own
        start. A policy that was trained before, a `NormalizedPolicy` included, goes on.
        By default, two hidden layers of 64 with rectifiers.
    - `double`: whether the network itself chooses the action whose value its target
        gives.
    - `dueling`: whether the default network has two heads, one for the value of the
        observation and one for the differences between actions. A `network` of two
        heads is dueling by itself.
    - `n_step`: how many rewards are summed up before a value follows.
    - `epsilon_start`, `epsilon_end`, `epsilon_steps`: the probability of a random
        action falls linearly from the first to the second in so many steps of all
        environments together, after learning has started.
    - `target_every`: the second network moves after each multiple of this many batches.
    - `tau`: the share of the way to the first that it moves, above 0 and at most 1,
        which copies it.
    - `max_grad_norm`: longer gradients are shortened to this length.
    - `options`: by keyword, `num_envs` (by default 1), `num_steps` (4),
        `gradient_steps` (1), `buffer_size` (100,000), `batch_size` (128),
        `learning_starts` (1000), `learning_rate` (5e-4), `gamma` (0.99),
        `normalize_obs`, `train_steps`, `record`, `callbacks`, `logger`, `progress_bar`
        and `compiler_options`, which `OffPolicyOptions` describes.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Sources: V. Mnih et al., Human-level control through deep reinforcement learning,
    2015; H. van Hasselt et al., Deep Reinforcement Learning with Double Q-learning,
    arXiv:1509.06461; Z. Wang et al., arXiv:1511.06581.
    """

    network: Any
    double: bool = eqx.field(static=True)
    dueling: bool = eqx.field(static=True)
    n_step: int = eqx.field(static=True)
    epsilon_start: Float[Array, ""]
    epsilon_end: Float[Array, ""]
    epsilon_steps: Float[Array, ""]
    target_every: int = eqx.field(static=True)
    tau: Float[Array, ""]
    max_grad_norm: Float[Array, ""]
    actions: int = eqx.field(static=True, init=False)

    @arguments(
        {**OFF_POLICY_DEFAULTS, **_OWN},
        network=a_network,
        double=flag,
        dueling=flag,
        n_step=whole(),
        target_every=whole(),
        tau=number(above=0.0, most=1.0),
        max_grad_norm=number(above=0.0),
        **EPSILON_CHECKS,
        **OFF_POLICY_CHECKS,
    )
    def __init__(
        self,
        env: Any,
        total_timesteps: Count | None = None,
        *,
        network: Network | None = None,
        double: bool = True,
        dueling: bool = False,
        n_step: Count = 1,
        epsilon_start: ArrayLike = 1.0,
        epsilon_end: ArrayLike = 0.05,
        epsilon_steps: ArrayLike = 10_000,
        target_every: Count = 1,
        tau: ArrayLike = 0.005,
        max_grad_norm: ArrayLike = 10.0,
        **options: Unpack[OffPolicyOptions],
    ):
        task = env_task(env)
        self.actions = choice_of(task, "DQN").size
        self.network = network
        self.double = double
        if dueling and network is not None:
            raise ValueError(
                "`dueling` of `DQN` gives the default network two heads, but got a "
                "`network` too. Leave `dueling` out, and return `(scores, value)` from "
                "the network."
            )
        self.dueling = dueling
        self.n_step = int(n_step)
        self.epsilon_start = leaf(epsilon_start)
        self.epsilon_end = leaf(epsilon_end)
        self.epsilon_steps = leaf(epsilon_steps)
        self.target_every = int(target_every)
        self.tau = leaf(tau)
        self.max_grad_norm = leaf(max_grad_norm)
        bounds = score_bounds(self.actions)
        super().__init__(task, total_timesteps, bounds, options, _OWN)

    def nets(self, key: PRNGKeyArray) -> QNets:
        """Return the network before the first batch, and a target equal to it."""
        mlp = dueling_mlp if self.dueling else relu_mlp
        policy = greedy_policy(
            self.env,
            self.network,
            lambda size, key: mlp(size, self.actions, 64, key),
            self.actions,
            key,
        )
        online = Learned.new(policy, "`network` of `DQN`")
        return QNets(online, online.trained)

    def explorer(self, nets: QNets, step: Any) -> BasePolicy[Any]:
        """Return the policy that plays a random action now and then."""
        return EpsilonGreedy(
            nets.online.network, epsilon_after(self, step), self.actions
        )

    def learn(
        self, nets: QNets, batch: Replayed, key: PRNGKeyArray, count: Array
    ) -> tuple[QNets, Any]:
        """Make a step of the network, and move the target if it is its turn."""
        del key
        target = nets.online.at(nets.target)
        following = scores_of(target, batch.next_obs)
        chooser = following
        if self.double:
            chooser = scores_of(nets.online.network, batch.next_obs)
        value = taken(following, jnp.argmax(chooser, axis=-1))
        goal = batch.reward + batch.discount * value

        def loss(policy: GreedyPolicy) -> tuple[Array, Any]:
            estimate = taken(scores_of(policy, batch.obs), batch.action)
            # Not Huber's loss: where errors are much larger than 1, it follows the many
            # steps that go on and not the few that terminate, and estimates diverge.
            error = batch.mean((estimate - goal) ** 2) / 2
            return error, {"value_loss": error, "mean_value": batch.mean(estimate)}

        online, report, norm = nets.online.step(
            loss, self.learning_rate, self.max_grad_norm
        )
        moved = jax.lax.cond(
            (count + 1) % self.target_every == 0,
            lambda: toward(nets.target, online.trained, self.tau),
            lambda: nets.target,
        )
        epsilon = epsilon_after(self, count // self.gradient_steps)
        return QNets(online, moved), {**report, "grad_norm": norm, "epsilon": epsilon}

    @property
    def given(self) -> dict[str, Any]:
        """The network as given."""
        return {"network": self.network}

    @property
    def n_steps(self) -> int:
        """The largest number of steps of a transition that is learned from."""
        return self.n_step


def scores_of(policy: GreedyPolicy, obs: Tree) -> Float[Array, "batch actions"]:
    """Return the estimated returns of each action for a batch of observations."""
    return jax.vmap(lambda one: output_of(policy, one))(obs)
