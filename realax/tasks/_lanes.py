"""Many episodes in few lanes: what is over makes room for what is next."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from .._parts import closes_over_tracer
from .._trees import where
from .._types import Tree
from ._base import vmap_jobs
from ._rollout import Episode, counts, job_keys


# New episodes begin when a lane in so many is free: each time costs a reset of all.
_FREE = 4


# On CPU, more lanes than these make a step slower than they save: measured on gymnax's
# environments, and on brax's, whose states are large. There a step's time goes with its
# lanes, and lanes that are never refilled wait for the longest episode.
_SMALL, _FEW_LANES, _MANY_LANES = 100, 32, 64


def _default_lanes(episode: Any, jobs: int) -> int:
    """How many lanes to play in, by the size of an episode's state."""
    if jax.default_backend() != "cpu":
        return max(2048, jobs // 8)
    size = sum(leaf.size for leaf in jax.tree.leaves(episode))
    return _MANY_LANES if size <= _SMALL else min(_FEW_LANES, -(-jobs // 2))


def play_in_lanes(
    task: Any, population: Any, keys: Key[Array, "pop reps"]
) -> tuple[Float[Array, "pop reps"], Tree]:
    """The returns and the aux of a population's episodes.

    A loop whose length is not known can not be differentiated backwards: derivatives
    are those of the scan over each episode. A task that closes over a traced array, as
    a `model_factory` under `grad` may, is played by that scan.

    **Arguments:**

    - `task`: an `EnvTask`.
    - `population`, `keys`: as for `AbstractTask.evaluate`.
    """
    _, functions = eqx.partition((task, population), eqx.is_array)
    if closes_over_tracer(functions):
        # jax allows no rule of one's own for what closes over a traced array.
        return vmap_jobs(task, population, keys, None)
    return _differentiable(task, population, keys)


@eqx.filter_custom_jvp
def _differentiable(task: Any, population: Any, keys: Any) -> Any:
    return _play(task, population, keys)


def _jvp(primals: Any, tangents: Any) -> Any:
    def scan(task: Any, population: Any, keys: Any) -> Any:
        return vmap_jobs(task, population, keys, None)

    _, out = eqx.filter_jvp(scan, primals, tangents)
    return _differentiable(*primals), out


_differentiable.def_jvp(_jvp)


class _Lanes(eqx.Module):
    """What the loop carries.

    - `episodes`: the arrays of the episode in each lane.
    - `job`: which one it is; the number of jobs where there is none.
    - `next_job`: the first one that has not begun.
    - `results`: what is kept of the episodes so far, one for each job.
    """

    episodes: Episode
    job: Int[Array, " lanes"]
    next_job: Int[Array, ""]
    results: Tree


def _play(task: Any, population: Any, keys: Any) -> tuple[Array, Tree]:
    pop, reps = keys.shape
    jobs = pop * reps
    keys = jax.vmap(job_keys)(keys.reshape(jobs))
    arrays, static = eqx.partition(population, eqx.is_array)
    arrays = jax.tree.map(jnp.asarray, arrays)
    rollout = task._rollout
    rest: list[Any] = []

    def policy_of(job: Array) -> Any:
        one = jax.tree.map(lambda leaf: leaf[job // reps], arrays)
        return eqx.filter(task._policy(eqx.combine(one, static)), eqx.is_array)

    def policy_rest() -> Any:
        policy = eqx.filter_eval_shape(
            lambda: task._policy(
                eqx.combine(jax.tree.map(lambda leaf: leaf[0], arrays), static)
            )
        )
        return eqx.filter(policy, lambda x: not isinstance(x, jax.ShapeDtypeStruct))

    fixed = policy_rest()

    def begin(policy: Any, keys: Any) -> Any:
        episode = rollout.begin(eqx.combine(policy, fixed), keys[0], keys[1])
        found, other = eqx.partition(episode, eqx.is_array_like)
        rest.append(other)
        return jax.tree.map(jnp.asarray, found)

    def advance(policy: Any, episode: Any, key: Any) -> Any:
        episode = eqx.combine(episode, rest[0])
        after, _ = rollout.advance(eqx.combine(policy, fixed), episode, key)
        return eqx.filter(after, eqx.is_array_like)

    shapes = jax.eval_shape(
        lambda job, keys: begin(policy_of(job), keys),
        jax.ShapeDtypeStruct((), jnp.int32),
        jax.eval_shape(lambda: keys[0]),
    )
    lanes = min(jobs, task.lanes or _default_lanes(shapes, jobs))

    def refill(state: _Lanes) -> tuple[_Lanes, Any, Any]:
        """Give a job to each free lane, as long as there are jobs."""
        free = state.episodes.done
        order = jnp.cumsum(free, dtype=jnp.int32)
        next_in_line = state.next_job + order - 1
        job = jnp.where(free, next_in_line, state.job)
        job = jnp.minimum(job, jobs)
        begins = free & (job < jobs)
        # Those without a job point at the last one, and what they play is not written.
        mine = jnp.minimum(job, jobs - 1)
        policies, lane_keys = jax.vmap(policy_of)(mine), keys[mine]
        fresh = jax.vmap(begin)(policies, lane_keys)
        episodes = jax.vmap(where)(begins, fresh, state.episodes)
        next_job = state.next_job + jnp.sum(begins, dtype=jnp.int32)
        state = _Lanes(episodes, job, next_job, state.results)
        return state, policies, lane_keys[:, 2]

    def round(state: _Lanes) -> _Lanes:
        state, policies, policy_keys = refill(state)
        waiting = state.next_job < jobs

        def goes_on(carry: Any) -> Array:
            t, episodes = carry
            free = jnp.sum(episodes.done, dtype=jnp.int32)
            enough = waiting & (free * _FREE >= lanes)
            if task.chunk is not None:
                enough |= waiting & (t >= task.chunk)
            return (free < lanes) & ~enough

        def step(carry: Any) -> Any:
            t, episodes = carry
            return t + 1, jax.vmap(advance)(policies, episodes, policy_keys)

        start = jnp.zeros((), jnp.int32), state.episodes
        _, episodes = jax.lax.while_loop(goes_on, step, start)
        done = jnp.where(episodes.done, state.job, jobs)
        return _Lanes(
            episodes,
            state.job,
            state.next_job,
            jax.tree.map(
                lambda kept, new: kept.at[done].set(new, mode="drop"),
                state.results,
                _result(episodes),
            ),
        )

    # Before the first job all lanes are free: of an episode, only its shape is known.
    empty = jax.tree.map(lambda x: jnp.zeros((lanes, *x.shape), x.dtype), shapes)
    state = _Lanes(
        episodes=eqx.tree_at(lambda e: e.done, empty, jnp.ones((lanes,), bool)),
        job=jnp.full((lanes,), jobs, jnp.int32),
        next_job=jnp.zeros((), jnp.int32),
        results=jax.tree.map(
            lambda x: jnp.zeros((jobs, *x.shape), x.dtype), _result(shapes)
        ),
    )

    def unfinished(state: _Lanes) -> Array:
        return (state.next_job < jobs) | ~jnp.all(state.episodes.done)

    state = jax.lax.while_loop(unfinished, round, state)
    total, length, moments = jax.tree.map(
        lambda x: x.reshape(pop, reps, *x.shape[1:]), state.results
    )
    aux = {"length": length}
    return total, (aux, moments) if counts(population) else aux


def _result(episode: Any) -> Any:
    return episode.total, episode.length, episode.moments
