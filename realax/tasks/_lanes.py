"""Many episodes in few lanes: when an episode ends, its lane takes the next one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from .._parts import closes_over_tracer
from .._trees import where
from .._types import PRNGKeyArray
from ._base import map_jobs
from ._lane_jobs import Jobs, Played, Player
from ._rollout import Episode


# New episodes begin when one lane in this many is free, because each refill resets all
# lanes.
_FREE = 4


# The default numbers of lanes on CPU: more lanes would cost more time in each step than
# they save. Measured on gymnax's environments, whose states are small, and on brax's,
# whose states are large. With large states the time of a step is proportional to the
# lanes, and lanes that are never refilled wait for the longest episode.
_SMALL, _FEW_LANES, _MANY_LANES = 100, 32, 64
# On CPU, a step of one episode with a large state takes a tenth of the time of a step
# of 32 lanes, on hopper 0.05 and 0.46 ms. When no more than this many episodes go on,
# they are played one by one. Their last bits then depend on which others are long.
_LAST = 4


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

    def waiting(self, jobs: Jobs) -> Bool[Array, ""]:
        """Return whether some job has not begun."""
        return self.next_job < jobs.number


def _live(episodes: Episode) -> Int[Array, ""]:
    """Return the number of episodes that go on."""
    return jnp.sum(~episodes.done, dtype=jnp.int32)


def _play(player: Player, population: Any, keys: Any, count: bool) -> Played:
    pop, reps = keys.shape
    jobs = Jobs(player, population, keys, count)
    start = _before_the_first(jobs, player.lanes)
    last = _last(start.episodes)
    end = jax.lax.while_loop(
        lambda state: state.waiting(jobs) | (_live(state.episodes) > last),
        lambda state: _round(state, jobs, player.chunk, last),
        start,
    )
    results = _one_by_one(end, jobs, last) if last else end.results
    return jax.tree.map(lambda x: x.reshape(pop, reps, *x.shape[1:]), results)


def _one_by_one(state: _Lanes, jobs: Jobs, last: int) -> Played:
    """Play the last episodes to their ends, and return the outcomes of all.

    **Arguments:**

    - `last`: the number of lanes in which episodes may go on.
    """

    def play(results: Played, lane: Array) -> tuple[Played, None]:
        # A lane may have had no job; its outcome is not written.
        job = state.job[lane]
        mine = jnp.minimum(job, jobs.number - 1)
        policy, key = jobs.policy(mine), jobs.keys[mine, 2]
        episode = jax.lax.while_loop(
            lambda episode: ~episode.done,
            lambda episode: jobs.advance(policy, episode, key),
            jax.tree.map(lambda leaf: leaf[lane], state.episodes),
        )
        return _written(results, job, jobs.outcome(episode)), None

    those_that_go_on = jnp.argsort(state.episodes.done, stable=True)[:last]
    return jax.lax.scan(play, state.results, those_that_go_on)[0]


def _written(results: Played, job: Array, outcomes: Played) -> Played:
    """Return the outcomes with those of some jobs, of which some may not exist."""
    return jax.tree.map(
        lambda kept, new: kept.at[job].set(new, mode="drop"), results, outcomes
    )


def _before_the_first(jobs: Jobs, lanes: int | None) -> _Lanes:
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


def _last(episodes: Any) -> int:
    """Return how many of the last episodes are played one after the other."""
    lanes = len(episodes.done)
    size = sum(leaf.size for leaf in jax.tree.leaves(episodes)) // lanes
    many = jax.default_backend() == "cpu" and size > _SMALL and lanes > _LAST
    return _LAST if many else 0


def _refilled(state: _Lanes, jobs: Jobs) -> tuple[_Lanes, Any, Array]:
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


def _round(state: _Lanes, jobs: Jobs, chunk: int | None, last: int) -> _Lanes:
    """Refill the free lanes, and step all lanes until enough of them are free.

    If no job waits, that is all but the last ones.
    """
    state, policies, keys = _refilled(state, jobs)
    waiting = state.waiting(jobs)
    lanes = len(state.job)

    def goes_on(carry: Any) -> Array:
        t, episodes = carry
        live = _live(episodes)
        enough = (lanes - live) * _FREE >= lanes
        if chunk is not None:
            enough |= t >= chunk
        return jnp.where(waiting, (live > 0) & ~enough, live > last)

    def step(carry: Any) -> Any:
        t, episodes = carry
        return t + 1, jax.vmap(jobs.advance)(policies, episodes, keys)

    start = jnp.zeros((), jnp.int32), state.episodes
    _, episodes = jax.lax.while_loop(goes_on, step, start)
    done = jnp.where(episodes.done, state.job, jobs.number)
    results = _written(state.results, done, jax.vmap(jobs.outcome)(episodes))
    return _Lanes(episodes, state.job, state.next_job, results)
