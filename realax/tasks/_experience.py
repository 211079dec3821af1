"""Endless streams of steps for learners: when an episode ends, the next one begins.

Episode `n` of a stream with key `key` is the one that `task(params, fold_in(key, n))`
plays, as long as the parameters stay the same.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, Key

from .._trees import where
from .._types import PRNGKeyArray
from ..policies import BasePolicy
from ._rollout import Episode, Experience, Rollout, arrays_of, job_keys, rest_of


class Stream(eqx.Module):
    """The state of an endless sequence of episodes. All leaves are arrays.

    - `episode`: the arrays of the episode in progress.
    - `key`: the stream's key.
    - `number`: the number of the episode in progress, from 0.
    """

    episode: Episode
    key: PRNGKeyArray
    number: Int[Array, "*streams"]


def begin_streams(
    rules: Rollout, policy: BasePolicy[Any], keys: Key[Array, " streams"]
) -> Stream:
    """Return streams before their first step.

    **Arguments:**

    - `rules`: the rules of their episodes.
    - `policy`: the policy that will play.
    - `keys`: a key for each stream.

    **Returns:** The streams, with the leading axis `streams` on every leaf.
    """
    first = jnp.zeros((), jnp.int32)
    return jax.vmap(lambda key: _begun(rules, policy, key, first))(keys)


def advance_streams(
    rules: Rollout, policy: BasePolicy[Any], streams: Stream, steps: int
) -> tuple[Stream, Experience]:
    """Advance streams by some steps, and return the experience of these steps.

    The environments are reset only after steps at which an episode ends.

    **Arguments:**

    - `rules`: the rules of their episodes.
    - `policy`: the policy that plays. It may differ from the one before; an episode in
        progress keeps its policy state.
    - `streams`: the streams so far.
    - `steps`: the number of steps.

    **Returns:** The streams, and the experience with leading axes `(steps, streams)`.
    """
    outline = eqx.filter_eval_shape(
        lambda: rules.begin(policy, streams.key[0], streams.key[0])
    )
    rest = rest_of(outline)

    def advance(stream: Stream) -> tuple[Stream, Experience]:
        episode = eqx.combine(stream.episode, rest)
        key = _keys(stream.key, stream.number)[2]
        episode, row = rules.step(policy, episode, key)
        episode = arrays_of(episode)
        return Stream(episode, stream.key, stream.number), _arrays(row)

    def restart(stream: Stream) -> Stream:
        fresh = _begun(rules, policy, stream.key, stream.number + 1)
        return where(stream.episode.done, fresh, stream)

    def body(streams: Stream, _: None) -> tuple[Stream, Experience]:
        streams, rows = jax.vmap(advance)(streams)
        over = jnp.any(streams.episode.done)
        streams = jax.lax.cond(over, jax.vmap(restart), lambda same: same, streams)
        return streams, rows

    return jax.lax.scan(body, streams, None, length=steps)


def _begun(
    rules: Rollout, policy: BasePolicy[Any], key: PRNGKeyArray, number: Array
) -> Stream:
    env_key, init_key, _ = _keys(key, number)
    return Stream(arrays_of(rules.begin(policy, env_key, init_key)), key, number)


def _keys(key: PRNGKeyArray, number: Array) -> PRNGKeyArray:
    return job_keys(jr.fold_in(key, number))


def _arrays(row: Experience) -> Experience:
    return jax.tree.map(jnp.asarray, row)
