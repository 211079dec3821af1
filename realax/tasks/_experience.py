"""Endless streams of steps for learners: an episode that is over gives way to the next.

Episode `n` of a stream with key `key` is the one that `task(params, fold_in(key, n))`
plays, as long as the parameters stay the same. An episode in which a number is not
finite is over at once, because no later number of it can be of use to a learner.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, Key

from .._trees import where, with_fields
from .._types import PRNGKeyArray
from ..policies import BasePolicy
from ._rollout import Episode, Experience, Rollout, arrays_of, job_keys, rest_of


class Stream(eqx.Module):
    """A sequence of episodes, where it is. All leaves are arrays.

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
    """Streams before their first step, side by side.

    **Arguments:**

    - `rules`: the rules of their episodes.
    - `policy`: the policy that will play.
    - `keys`: a key for each.
    """
    first = jnp.zeros((), jnp.int32)
    return jax.vmap(lambda key: _begun(rules, policy, key, first))(keys)


def advance_streams(
    rules: Rollout, policy: BasePolicy[Any], streams: Stream, steps: int
) -> tuple[Stream, Experience]:
    """Streams after some more steps, and the experience of these.

    The environments are reset only after steps at which some episode ends.

    **Arguments:**

    - `rules`: the rules of their episodes.
    - `policy`: the policy that plays. It may be another one than before; an episode in
        progress goes on with its policy state.
    - `streams`: the streams so far.
    - `steps`: the number of steps.

    **Returns:** The streams, and the experience with the leading axes
    `(steps, streams)`.
    """
    outline = eqx.filter_eval_shape(
        lambda: rules.begin(policy, streams.key[0], streams.key[0])
    )
    rest = rest_of(outline)

    def advance(stream: Stream) -> tuple[Stream, Experience]:
        episode = eqx.combine(stream.episode, rest)
        key = _keys(stream.key, stream.number)[2]
        episode, row = rules.step(policy, episode, key)
        episode = arrays_of(with_fields(episode, done=row.over))
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
