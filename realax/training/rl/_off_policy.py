"""Learning from a replay buffer: the loop that DQN, TD3 and SAC share."""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._arguments import Count
from ..._compile import compiled
from ..._errors import check_key
from ..._frozen import Frozen
from ..._keys import split
from ..._trees import with_fields
from ..._types import PRNGKeyArray, Tree
from ...policies import (
    BasePolicy,
    Bounds,
    Moments,
    RandomPolicy,
)
from ...tasks import EnvTask
from .._callbacks import Callbacks
from .._options import frozen_options
from ._checks import (
    check_buffer,
    check_given,
    play_one_step,
    updates_of,
)
from ._collect import collected
from ._episodes import EpisodeMeans
from ._learner import AbstractLearner, bound, leaf, normalizes
from ._off_policy_options import OFF_POLICY_DEFAULTS, OffPolicyOptions
from ._off_policy_state import AbstractNets, OffPolicyState
from ._replay import ReplayBuffer
from ._transitions import Replayed, Transition, replayed, transitions_of


# Without optimisations, compilation is faster and steps are slower. Both are equal at
# 110,000 random steps on hopper, and at more on Pendulum.
FEW_RANDOM_STEPS = 20_000


class AbstractOffPolicy[N: AbstractNets, M](AbstractLearner[OffPolicyState[N], M]):
    """A learner that samples from a replay buffer of the latest steps.

    Each step of the trainer plays `num_steps` steps of each of `num_envs` environments,
    stores them, and learns from `gradient_steps` batches of stored steps. Before the
    first one, `learning_starts` steps are played at random.

    A subclass defines `nets`, `explorer` and `learn`.
    """

    env: EnvTask[Any]
    train_steps: int
    num_envs: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    gradient_steps: int = eqx.field(static=True)
    buffer_size: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    learning_starts: int = eqx.field(static=True)
    learning_rate: Float[Array, ""]
    gamma: Float[Array, ""]
    normalize_obs: bool = eqx.field(static=True)
    record: Callable[[OffPolicyState[N]], Tree] | None
    callbacks: Callbacks
    compiler_options: Frozen | None = eqx.field(static=True)
    bounds: Bounds = eqx.field(static=True, init=False)

    def __init__(
        self,
        env: EnvTask[Any],
        total_timesteps: Count | None,
        bounds: Bounds,
        options: OffPolicyOptions,
        defaults: OffPolicyOptions,
    ):
        """Set the fields of all subclasses, from arguments that were checked before.

        **Arguments:**

        - `bounds`: the bounds of a random policy's output.
        - `options`, `defaults`: the keywords that were given, and their defaults.
        """
        name = type(self).__name__
        given: dict[str, Any] = {**OFF_POLICY_DEFAULTS, **defaults, **options}
        self.env = env
        self.bounds = bounds
        self.num_envs = int(given["num_envs"])
        self.num_steps = int(given["num_steps"])
        self.gradient_steps = int(given["gradient_steps"])
        sizes = [
            int(given[size])
            for size in ("batch_size", "buffer_size", "learning_starts")
        ]
        check_buffer(name, *sizes)
        self.batch_size = sizes[0]
        # Both are whole additions to the buffer.
        self.buffer_size, self.learning_starts = (
            _up(size, self._block) for size in sizes[1:]
        )
        self.train_steps = updates_of(
            name,
            total_timesteps,
            given["train_steps"],
            self._block,
            self.learning_starts,
        )
        self.learning_rate = leaf(given["learning_rate"])
        self.gamma = leaf(given["gamma"])
        self.normalize_obs = normalizes(self, given["normalize_obs"])
        self.record = given["record"]
        self.callbacks = Callbacks.of(
            given["callbacks"], given["logger"], given["progress_bar"]
        )
        self.compiler_options = frozen_options(given["compiler_options"], name)
        check_given(self)
        eqx.filter_eval_shape(self._try, jr.key(0))

    @abc.abstractmethod
    def nets(self, key: PRNGKeyArray) -> N:
        """Return the networks before the first batch.

        **Arguments:**

        - `key`: initialises those that are not given as modules.
        """

    @abc.abstractmethod
    def explorer(self, nets: N, step: Any) -> BasePolicy[Any]:
        """Return the policy that plays the steps to be stored.

        **Arguments:**

        - `nets`: the networks.
        - `step`: how often the trainer has played and learned before.
        """

    @abc.abstractmethod
    def learn(
        self, nets: N, batch: Replayed, key: PRNGKeyArray, count: Array
    ) -> tuple[N, Any]:
        """Learn from a batch.

        **Arguments:**

        - `nets`: the networks before it.
        - `batch`: the transitions.
        - `key`: the batch's own key.
        - `count`: how many batches were learned from before.

        **Returns:** The networks after it, and a dictionary of metrics with
        `grad_norm`.
        """

    @property
    def batch_steps(self) -> int:
        """The number of transitions in a batch."""
        return self.batch_size

    @property
    def initial_xla_options(self) -> dict[str, Any]:
        """Those of every learner, unless many random steps are to be computed fast."""
        few = self.learning_starts <= FEW_RANDOM_STEPS
        return super().initial_xla_options if few else {}

    @property
    def n_steps(self) -> int:
        """The largest number of steps of a transition that is learned from."""
        return 1

    @property
    def total_timesteps(self) -> int:
        """The number of steps that a run plays, of all environments together."""
        return self.learning_starts + self.train_steps * self._block

    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> OffPolicyState[N]:
        """Return the state after the random steps, before the first batch.

        **Arguments:**

        - `key`: splits into that of the networks and that of the environments, of which
            each has a key of its own.
        - `data`: not used.
        """
        check_key(key)
        del data
        net_key, env_key = split(key)
        nets = self.nets(net_key)
        # Compiled, as steps operation by operation may take minutes.
        played = compiled(_play_at_random, {})(
            self.env,
            RandomPolicy(self.bounds, self.explorer(nets, 0)),
            env_key,
            self.num_envs,
            self.learning_starts // self.num_envs,
            self.buffer_size,
            self._block,
        )
        streams, buffer, episodes, moments = played
        stats = self.first_stats
        return OffPolicyState(
            step=jnp.zeros((), jnp.int32),
            nets=nets,
            streams=streams,
            buffer=buffer,
            obs_stats=None if stats is None else stats.absorb(moments),
            episodes=episodes,
        )

    def train_step(
        self, state: OffPolicyState[N], key: PRNGKeyArray, data: Tree = None
    ) -> tuple[OffPolicyState[N], M]:
        """Play some steps, store them, and learn from what is stored."""
        del data
        stats = state.obs_stats
        player = bound(self.explorer(state.nets, state.step), stats)
        streams, rows = collected(self.env, player, state.streams, self.num_steps)
        episodes, ended = state.episodes.after(state.streams, rows)
        if stats is not None:
            stats = stats.absorb(Moments.of(rows.obs))
        buffer = state.buffer.add(transitions_of(rows))

        def batch(nets: N, i: Array, key: PRNGKeyArray) -> tuple[N, Any]:
            sample_key, learn_key = split(key)
            found = replayed(
                buffer,
                stats,
                sample_key,
                self.batch_size,
                self.gamma,
                self.num_envs,
                self.n_steps,
            )
            return self.learn(
                nets, found, learn_key, state.step * self.gradient_steps + i
            )

        if self.gradient_steps == 1:  # each key costs as much as a small network
            nets, losses = batch(state.nets, jnp.zeros((), jnp.int32), key)
        else:
            keys = split(key, self.gradient_steps)
            numbered = jnp.arange(self.gradient_steps), keys
            nets, losses = jax.lax.scan(
                lambda nets, one: batch(nets, *one), state.nets, numbered
            )
        after = with_fields(
            state,
            nets=nets,
            streams=streams,
            buffer=buffer,
            obs_stats=stats,
            episodes=episodes,
        )
        metrics: Any = {
            "episode_return": episodes.total,
            "episode_length": episodes.length,
            "episodes": ended,
            "failed": jnp.sum(rows.failed),
            **jax.tree.map(jnp.mean, losses),
            "skipped": nets.skipped,
        }
        return after, metrics

    def params(self, state: OffPolicyState[N]) -> BasePolicy[Any]:
        """Return the policy after the last batch."""
        return bound(state.nets.policy, state.obs_stats)

    def _try(self, key: PRNGKeyArray) -> Any:
        """Tracing it refuses networks and environments that do not fit."""
        player = self.explorer(self.nets(key), jnp.zeros((), jnp.int32))
        return play_one_step(self.env, bound(player, self.first_stats), key)

    @property
    def _block(self) -> int:
        return self.num_envs * self.num_steps


def _up(count: int, divisor: int) -> int:
    return math.ceil(count / divisor) * divisor


def _play_at_random(
    env: EnvTask[Any],
    player: BasePolicy[Any],
    key: PRNGKeyArray,
    num_envs: int,
    steps: int,
    capacity: int,
    block: int,
) -> Any:
    """Play steps at random, and return the environments and what they showed."""
    before = env.begin_streams(player, split(key, num_envs))
    streams, rows = collected(env, player, before, steps)
    transitions = transitions_of(rows)
    row = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), transitions
    )
    buffer = ReplayBuffer[Transition].new(row, capacity, block).add(transitions)
    episodes, _ = EpisodeMeans.unknown().after(before, rows)
    moments = Moments.of(rows.obs) if env.flatten_obs else None
    return streams, buffer, episodes, moments
