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

from .._anywhere import anywhere
from .._trees import where, with_fields
from .._types import PRNGKeyArray
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


# The policies' random numbers are drawn at once for as many steps of all streams, at
# most: for a divisor of the number of steps, and again for what is left of them when an
# episode begins. With more streams, some episode begins in nearly each step.
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

    def drawn(stream: Stream, ahead: Array) -> Any:
        """Return the policy's random numbers of some of the next steps."""
        episode = eqx.combine(stream.episode, rest)
        return noise_of(policy, episode, stream.policy_key, episode.length + ahead)

    def advance(stream: Stream, noise: Any) -> tuple[Stream, Experience]:
        episode = eqx.combine(stream.episode, rest)
        episode, row = rules.step(policy, episode, noise)
        episode = arrays_of(with_fields(episode, done=row.over))
        return with_fields(stream, episode=episode), _arrays(row)

    def restart(stream: Stream, table: Any, ahead: Array) -> tuple[Stream, Any]:
        fresh = _begun(rules, policy, stream.key, stream.number + 1)
        renewed = jax.vmap(drawn, (None, 0))(fresh, ahead)
        return where(stream.episode.done, (fresh, renewed), (stream, table))

    def body(carry: Any, i: Array) -> tuple[Any, Experience]:
        streams, tables = carry
        noise = jax.tree.map(lambda leaf: leaf[:, i], tables)
        streams, rows = jax.vmap(advance)(streams, noise)
        carry = jax.lax.cond(
            anywhere(jnp.any(streams.episode.done)),
            lambda: jax.vmap(restart, (0, 0, None))(streams, tables, ahead - i - 1),
            lambda: (streams, tables),
        )
        return carry, rows

    def block(streams: Stream, _: None) -> tuple[Stream, Experience]:
        # At once, as key by key they take as long as the networks of a small policy.
        tables = jax.vmap(jax.vmap(drawn, (None, 0)), (0, None))(streams, ahead)
        (streams, _), rows = jax.lax.scan(body, (streams, tables), ahead)
        return streams, rows

    most = max(1, BLOCK // len(streams.number))
    size = max(n for n in range(1, most + 1) if steps % n == 0)
    ahead = jnp.arange(size)
    streams, rows = jax.lax.scan(block, streams, None, length=steps // size)
    return streams, jax.tree.map(lambda x: x.reshape(steps, *x.shape[2:]), rows)


def _begun(
    rules: Rollout, policy: BasePolicy[Any], key: PRNGKeyArray, number: Array
) -> Stream:
    env_key, init_key, policy_key = job_keys(jr.fold_in(key, number))
    episode = arrays_of(rules.begin(policy, env_key, init_key))
    return Stream(episode, key, number, policy_key)


def _arrays(row: Experience) -> Experience:
    return jax.tree.map(jnp.asarray, row)
