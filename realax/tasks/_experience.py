"""Endless streams of steps for learners: when an episode ends, the next one begins.

Episode `n` of a stream with key `key` is the one that `task(params, fold_in(key, n))`
plays, as long as the parameters stay the same. An episode in which a number is not
finite is over at once, because no later number of it can be of use to a learner.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from .._anywhere import anywhere
from .._keys import fold_in
from .._trees import where, with_fields
from .._types import PRNGKeyArray, Tree
from ..policies import BasePolicy
from ._rollout import (
    Episode,
    Experience,
    Rollout,
    arrays_of,
    job_keys,
    noise_of,
    rest_of,
)


# The policies' random numbers are drawn at once for as many steps of all streams, and
# again when an episode begins. With more streams, one begins in nearly each step.
BLOCK = 32


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

    size = max(1, min(steps, BLOCK // len(streams.number)))

    def drawn(stream: Stream) -> Tree:
        """Return the policy's random numbers of the next steps."""
        episode = eqx.combine(stream.episode, rest)
        noise = lambda t: noise_of(policy, episode, stream.policy_key, t)
        return jax.vmap(noise)(episode.length + jnp.arange(size))

    def draw(streams: Stream) -> Tree:
        # At once, as key by key they take as long as the networks of a small policy.
        return jax.vmap(drawn, out_axes=1)(streams)

    def advance(stream: Stream, noise: Tree) -> tuple[Stream, Experience]:
        episode = eqx.combine(stream.episode, rest)
        episode, row = rules.step(policy, episode, noise)
        episode = arrays_of(with_fields(episode, done=row.over))
        return with_fields(stream, episode=episode), _arrays(row)

    def restart(stream: Stream) -> Stream:
        fresh = _begun(rules, policy, stream.key, stream.number + 1)
        return where(stream.episode.done, fresh, stream)

    def body(carry: Any, _: None) -> tuple[Any, Experience]:
        streams, table, left = carry  # steps for which the table has numbers
        table = jax.lax.cond(left == 0, draw, lambda _: table, streams)
        left = jnp.where(left == 0, size, left) - 1
        noise = jax.tree.map(lambda leaf: leaf[size - 1 - left], table)
        streams, rows = jax.vmap(advance)(streams, noise)
        ended = anywhere(jnp.any(streams.episode.done))
        streams = jax.lax.cond(ended, jax.vmap(restart), lambda same: same, streams)
        return (streams, table, jnp.where(ended, 0, left)), rows

    shapes = jax.eval_shape(draw, streams)
    table = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    start = streams, table, jnp.zeros((), jnp.int32)
    (streams, _, _), rows = jax.lax.scan(body, start, None, length=steps)
    return streams, rows


def _begun(
    rules: Rollout, policy: BasePolicy[Any], key: PRNGKeyArray, number: Array
) -> Stream:
    env_key, init_key, policy_key = job_keys(fold_in(key, number))
    episode = arrays_of(rules.begin(policy, env_key, init_key))
    return Stream(episode, key, number, policy_key)


def _arrays(row: Experience) -> Experience:
    return jax.tree.map(jnp.asarray, row)
