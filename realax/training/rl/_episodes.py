"""Returns and lengths of the episodes that end while a learner collects experience."""

from typing import TypedDict

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...tasks import Experience, Stream


class EpisodeMetrics(TypedDict):
    """Metrics that every learner has.

    - `episode_return`: the mean return of the episodes that ended in this step of the
        trainer, in the environment's own rewards; where none ended, the last known
        mean, and NaN until the first one.
    - `episode_length`: their mean length in steps, likewise.
    - `episodes`: how many ended.
    - `failed`: how many steps had a reward or an observation that was not finite. Such
        an episode is cut off and the step is not learned from.
    - `grad_norm`: the Euclidean length of the gradient before it is shortened: of the
        critics, where a policy has a network of its own that is trained apart.
    - `skipped`: how many steps of the networks were skipped so far by the guard.
    """

    episode_return: Float[Array, ""]
    episode_length: Float[Array, ""]
    episodes: Int[Array, ""]
    failed: Int[Array, ""]
    grad_norm: Float[Array, ""]
    skipped: Int[Array, ""]


class EpisodeMeans(eqx.Module):
    """Means over the episodes that ended last; a part of a trainer's state.

    - `total`: their mean return, in the environment's own rewards.
    - `length`: their mean length in steps.

    Both are NaN until an episode has ended.
    """

    total: Float[Array, ""]
    length: Float[Array, ""]

    @staticmethod
    def unknown() -> "EpisodeMeans":
        """Return the means before the first episode has ended."""
        nan = jnp.full((), jnp.nan, jnp.result_type(float))
        return EpisodeMeans(nan, nan)

    def after(
        self, streams: Stream, rows: Experience
    ) -> tuple["EpisodeMeans", Int[Array, ""]]:
        """Return the means after some steps, and how many episodes ended in them.

        **Arguments:**

        - `streams`: the streams before these steps.
        - `rows`: the experience, with the leading axes `(steps, streams)`.
        """
        count = jnp.sum(rows.over)
        ended = _until_last(rows.over)
        rewards = jnp.where(ended & ~rows.failed, rows.reward, 0.0)
        begun = streams.episode  # what its episodes had before these steps
        total = jnp.sum(rewards) + jnp.sum(jnp.where(ended[0], begun.total, 0.0))
        length = jnp.sum(ended) + jnp.sum(jnp.where(ended[0], begun.length, 0))
        some, divisor = count > 0, jnp.maximum(count, 1)
        means = EpisodeMeans(
            jnp.where(some, total / divisor, self.total),
            jnp.where(some, length / divisor, self.length),
        )
        return means, count


def _until_last(over: Bool[Array, "steps envs"]) -> Bool[Array, "steps envs"]:
    """Return which steps belong to episodes that end among these steps."""
    steps = jnp.arange(len(over))
    last = jnp.max(jnp.where(over, steps[:, None], -1), axis=0)
    return steps[:, None] <= last
