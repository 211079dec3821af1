"""The episodes that lanes play, and their outcomes."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..policies import BasePolicy, Moments
from ._rollout import Episode, Rollout, arrays_of, job_keys, rest_of


class Played(eqx.Module):
    """The outcomes of episodes, with any leading axes of episodes.

    - `total`, `length`: the return, and the number of steps.
    - `moments`: the sums over the observations; `None` if they were not computed.
    - `descriptor`: the descriptor; `None` for a task without one.
    """

    total: Float[Array, "*episodes"]
    length: Int[Array, "*episodes"]
    moments: Moments | None
    descriptor: Float[Array, "*episodes dims"] | None

    @staticmethod
    def of(episode: Episode, rules: Rollout) -> "Played":
        """Return the outcome of an episode so far."""
        described = rules.descriptor_of(episode)
        return Played(episode.total, episode.length, episode.moments, described)


@runtime_checkable
class Player(Protocol):
    """The part of an environment task that plays episodes."""

    @property
    def lanes(self) -> int | None:
        """The number of lanes; `None` for a default."""
        ...

    @property
    def chunk(self) -> int | None:
        """The largest number of steps between two refills; `None` for no limit."""
        ...

    def rules(self) -> Rollout:
        """Return the rules of its episodes."""
        ...

    def policy_of(self, params: Any) -> BasePolicy[Any]:
        """Return the policy that is made from parameters."""
        ...


class Jobs:
    """The episodes to play, by their number.

    Its methods take and return only the arrays of policies and episodes. All other
    leaves are the same for all episodes, and are kept here.
    """

    def __init__(self, player: Player, population: Any, keys: Any, count: bool):
        pop, self.reps = keys.shape
        self.number: int = pop * self.reps
        self.keys: Array = jax.vmap(job_keys)(keys.reshape(self.number))
        arrays, self.static = eqx.partition(population, eqx.is_array)
        self.arrays: Any = jax.tree.map(jnp.asarray, arrays)
        self.player, self.rules, self.count = player, player.rules(), count
        first = eqx.filter_eval_shape(lambda: self._policy(0))
        is_shape = lambda x: isinstance(x, jax.ShapeDtypeStruct)
        self.policy_rest: Any = eqx.filter(first, is_shape, inverse=True)
        outline = eqx.filter_eval_shape(
            lambda: self._begin(self.policy(0), self.keys[0])
        )
        self.episode_rest: Episode = rest_of(outline)
        # Jitted and inlined, so that lanes and single episodes trace it only once.
        self.advance = jax.jit(self._advance, inline=True)

    def _policy(self, job: Array | int) -> BasePolicy[Any]:
        one = jax.tree.map(lambda leaf: leaf[job // self.reps], self.arrays)
        return self.player.policy_of(eqx.combine(one, self.static))

    def _begin(self, policy: Any, keys: Array) -> Episode:
        whole = eqx.combine(policy, self.policy_rest)
        return self.rules.begin(whole, keys[0], keys[1], count=self.count)

    def policy(self, job: Array | int) -> Any:
        """Return the arrays of the policy that plays a job."""
        return eqx.filter(self._policy(job), eqx.is_array)

    def begin(self, policy: Any, keys: Array) -> Episode:
        """Return the arrays of an episode before its first step."""
        return arrays_of(self._begin(policy, keys))

    def _advance(self, policy: Any, episode: Any, key: Array) -> Episode:
        """Return the arrays of an episode after one more step, if it is not over."""
        policy = eqx.combine(policy, self.policy_rest)
        episode = eqx.combine(episode, self.episode_rest)
        after, _ = self.rules.advance(policy, episode, key)
        return eqx.filter(after, eqx.is_array_like)

    def outcome(self, episode: Any) -> Played:
        """Return the outcome of an episode so far, from its arrays."""
        return Played.of(eqx.combine(episode, self.episode_rest), self.rules)
