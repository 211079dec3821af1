"""Metrics by their names."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._errors import closest


def metric_of(metrics: Any, name: str) -> Array:
    """Return the mean of a metric, as a float of shape `()`.

    **Arguments:**

    - `metrics`: the metrics of a step.
    - `name`: the name of an entry, such as `"loss"`, with dots to deeper entries, such
        as `"eval_data.length"`.

    **Raises:** `ValueError` with the closest matches if there is no such metric, or if
    it is a tree of several.
    """
    value = jnp.asarray(entry_of(entries_of(metrics), name))
    return jnp.mean(value.astype(jnp.result_type(float)))


def entries_of(metrics: Any) -> dict[str, Any]:
    """Return all entries of metrics by their names, with dots to deeper ones."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(metrics)
    }


def entry_of(entries: Mapping[str, Any], name: str, argument: str = "metric") -> Any:
    """Return the entry with a name that the user gave as `argument`.

    **Raises:** `ValueError` as `metric_of`.
    """
    if name in entries:
        return entries[name]
    inside = [entry for entry in entries if entry.startswith(f"{name}.")]
    if inside:
        raise ValueError(
            f"`{argument}` must name one number of a step, but {name!r} holds "
            f"{len(inside)}: {', '.join(map(repr, inside))}. Choose one of them."
        )
    raise ValueError(
        f"`{argument}`: there is no {name!r} among the metrics. "
        f"{closest(name, entries)}"
    )


class MetricOf(eqx.Module):
    """Selects a metric of each step by its name."""

    name: str = eqx.field(static=True)

    def __call__(self, state: Any, metrics: Any) -> Array:
        """Return the metric as one number."""
        del state
        return metric_of(metrics, self.name)


class SpreadOf(eqx.Module):
    """Selects the smallest, the median and the largest value of a metric over lanes."""

    name: str = eqx.field(static=True)

    def __call__(self, state: Any, metrics: Any) -> Array:
        """Return the three numbers, of the lanes in which the metric is not NaN."""
        del state
        values = jax.vmap(lambda metrics: metric_of(metrics, self.name))(metrics)
        # Quantiles would be NaN beside infinite values.
        ends = jnp.nanmin(values), jnp.nanmedian(values), jnp.nanmax(values)
        return jnp.stack(ends)


class MeanOf(eqx.Module):
    """Selects the mean of a metric over the lanes in which it is not NaN."""

    name: str = eqx.field(static=True)

    def __call__(self, state: Any, metrics: Any) -> Array:
        """Return the mean."""
        del state
        values = jax.vmap(lambda metrics: metric_of(metrics, self.name))(metrics)
        return jnp.nanmean(values)
