"""Many episodes in few lanes: when an episode ends, its lane takes the next one."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .._parts import closes_over_tracer
from .._trees import where
from .._types import PRNGKeyArray
from ..policies import BasePolicy, Moments
from ._base import map_jobs
from ._rollout import Episode, Rollout, arrays_of, job_keys, rest_of


# New episodes begin when one lane in this many is free, because each refill resets all
# lanes.
_FREE = 4


# The default numbers of lanes on CPU: more lanes would cost more time in each step than
# they save. Measured on gymnax's environments, whose states are small, and on brax's,
# whose states are large. With large states the time of a step is proportional to the
# lanes, and lanes that are never refilled wait for the longest episode.
_SMALL, _FEW_LANES, _MANY_LANES = 100, 32, 64


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


def play_in_lanes(
    player: Player, population: Any, keys: Key[Array, "pop reps"], *, count: bool
) -> Played:
    """Play the episodes of a population in lanes.

    jax cannot differentiate a loop of unknown length in reverse mode, so derivatives
    are those of a scan over each episode. If the task closes over a traced array, such
    as a `model_factory` under `grad`, that scan plays the episodes.

    **Arguments:**

    - `player`: the environment task.
    - `population`, `keys`: as for `AbstractTask.evaluate`.
    - `count`: whether to sum up the observations.

    **Returns:** The outcomes, with leading axes `(pop, reps)`.
    """
    _, functions = eqx.partition((player, population), eqx.is_array)
    if closes_over_tracer(functions):
        # jax does not support custom derivative rules for functions that close over
        # tracers.
        return _play_by_scan(player, population, keys, count)
    return _differentiable(player, population, keys, count)


def _play_by_scan(player: Player, population: Any, keys: Any, count: bool) -> Played:
    def job(params: Any, key: PRNGKeyArray) -> Played:
        policy, rules = player.policy_of(params), player.rules()
        return Played.of(rules.scan(policy, key, count=count)[0], rules)

    return map_jobs(job, population, keys)


@eqx.filter_custom_jvp
def _differentiable(player: Any, population: Any, keys: Any, count: bool) -> Any:
    return _play(player, population, keys, count)


def _jvp(primals: Any, tangents: Any) -> Any:
    _, out = eqx.filter_jvp(_play_by_scan, primals, tangents)
    return _differentiable(*primals), out


_differentiable.def_jvp(_jvp)


class _Jobs:
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

    def advance(self, policy: Any, episode: Any, key: Array) -> Episode:
        """Return the arrays of an episode after one more step, if it is not over."""
        policy = eqx.combine(policy, self.policy_rest)
        episode = eqx.combine(episode, self.episode_rest)
        after, _ = self.rules.advance(policy, episode, key)
        return eqx.filter(after, eqx.is_array_like)

    def outcome(self, episode: Any) -> Played:
        """Return the outcome of an episode so far, from its arrays."""
        return Played.of(eqx.combine(episode, self.episode_rest), self.rules)


class _Lanes(eqx.Module):
    """The carry of the loop.

    - `episodes`: the arrays of the episode in each lane.
    - `job`: the number of each lane's job; the total number of jobs for a lane that has
        none.
    - `next_job`: the first job that has not begun.
    - `results`: the outcomes of the finished episodes, with a row for each job.
    """

    episodes: Episode
    job: Int[Array, " lanes"]
    next_job: Int[Array, ""]
    results: Played

    def unfinished(self, jobs: _Jobs) -> Bool[Array, ""]:
        """Return whether some job has not begun or is not over."""
        return (self.next_job < jobs.number) | ~jnp.all(self.episodes.done)


def _play(player: Player, population: Any, keys: Any, count: bool) -> Played:
    pop, reps = keys.shape
    jobs = _Jobs(player, population, keys, count)
    end = jax.lax.while_loop(
        lambda state: state.unfinished(jobs),
        lambda state: _round(state, jobs, player.chunk),
        _before_the_first(jobs, player.lanes),
    )
    return jax.tree.map(lambda x: x.reshape(pop, reps, *x.shape[1:]), end.results)


def _before_the_first(jobs: _Jobs, lanes: int | None) -> _Lanes:
    """Return the initial carry, in which all lanes are free.

    Their episodes are zeros of the right shapes.
    """
    shapes = jax.eval_shape(lambda: jobs.begin(jobs.policy(0), jobs.keys[0]))
    lanes = min(jobs.number, lanes or _default_lanes(shapes, jobs.number))
    empty = _zeros(lanes, shapes)
    return _Lanes(
        episodes=eqx.tree_at(lambda e: e.done, empty, jnp.ones((lanes,), bool)),
        job=jnp.full((lanes,), jobs.number, jnp.int32),
        next_job=jnp.zeros((), jnp.int32),
        results=_zeros(jobs.number, jax.eval_shape(jobs.outcome, shapes)),
    )


def _zeros(number: int, shapes: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros((number, *x.shape), x.dtype), shapes)


def _default_lanes(episode: Any, jobs: int) -> int:
    """Return the number of lanes for episodes with arrays of these shapes."""
    if jax.default_backend() != "cpu":
        return max(2048, jobs // 8)
    size = sum(leaf.size for leaf in jax.tree.leaves(episode))
    return _MANY_LANES if size <= _SMALL else min(_FEW_LANES, -(-jobs // 2))


def _refilled(state: _Lanes, jobs: _Jobs) -> tuple[_Lanes, Any, Array]:
    """Start the next jobs in the free lanes, as long as there are jobs.

    **Returns:** The lanes, the arrays of their policies, and the keys of the policies.
    """
    free = state.episodes.done
    order = jnp.cumsum(free, dtype=jnp.int32)
    job = jnp.where(free, state.next_job + order - 1, state.job)
    job = jnp.minimum(job, jobs.number)
    begins = free & (job < jobs.number)
    # Lanes without a job refer to the last one; their outcome is not written.
    mine = jnp.minimum(job, jobs.number - 1)
    policies, keys = jax.vmap(jobs.policy)(mine), jobs.keys[mine]
    fresh = jax.vmap(jobs.begin)(policies, keys)
    episodes = jax.vmap(where)(begins, fresh, state.episodes)
    next_job = state.next_job + jnp.sum(begins, dtype=jnp.int32)
    return _Lanes(episodes, job, next_job, state.results), policies, keys[:, 2]


def _round(state: _Lanes, jobs: _Jobs, chunk: int | None) -> _Lanes:
    """Refill the free lanes, and step all lanes until enough of them are free."""
    state, policies, keys = _refilled(state, jobs)
    waiting = state.next_job < jobs.number
    lanes = len(state.job)

    def goes_on(carry: Any) -> Array:
        t, episodes = carry
        free = jnp.sum(episodes.done, dtype=jnp.int32)
        enough = waiting & (free * _FREE >= lanes)
        if chunk is not None:
            enough |= waiting & (t >= chunk)
        return (free < lanes) & ~enough

    def step(carry: Any) -> Any:
        t, episodes = carry
        return t + 1, jax.vmap(jobs.advance)(policies, episodes, keys)

    start = jnp.zeros((), jnp.int32), state.episodes
    _, episodes = jax.lax.while_loop(goes_on, step, start)
    done = jnp.where(episodes.done, state.job, jobs.number)
    results = jax.tree.map(
        lambda kept, new: kept.at[done].set(new, mode="drop"),
        state.results,
        jax.vmap(jobs.outcome)(episodes),
    )
    return _Lanes(episodes, state.job, state.next_job, results)
