"""Endless streams of steps for learners: when an episode ends, the next one begins.

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
    """The state of an endless sequence of episodes. All leaves are arrays.

    - `episode`: the arrays of the episode in progress.
    - `key`: the stream's key.
    - `number`: the number of the episode in progress, from 0.
    - `policy_key`: the last of its `job_keys`, kept so that a step need not derive it.
    """

    episode: Episode
    key: PRNGKeyArray
    number: Int[Array, "*streams"]
    policy_key: PRNGKeyArray


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
        episode, row = rules.step(policy, episode, stream.policy_key)
        episode = arrays_of(with_fields(episode, done=row.over))
        return with_fields(stream, episode=episode), _arrays(row)

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
    env_key, init_key, policy_key = job_keys(jr.fold_in(key, number))
    episode = arrays_of(rules.begin(policy, env_key, init_key))
    return Stream(episode, key, number, policy_key)


def _arrays(row: Experience) -> Experience:
    return jax.tree.map(jnp.asarray, row)
