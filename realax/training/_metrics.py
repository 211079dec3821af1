"""One number of each step, by its name among the metrics."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._errors import closest


def metric_of(metrics: Any, name: str) -> Array:
    """Return the mean of a metric, as a float of shape `()`.

    **Arguments:**

    - `metrics`: those of a step.
    - `name`: the name of an entry, such as `"loss"`, with dots to deeper ones, such as
        `"eval_data.length"`.

    **Raises:** `ValueError` with the closest matches where there is no such metric,
    or where it is a tree of several.
    """
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(metrics)
    }
    if name in leaves:
        value = jnp.asarray(leaves[name])
        return jnp.mean(value.astype(jnp.result_type(float)))
    inside = [leaf for leaf in leaves if leaf.startswith(f"{name}.")]
    if inside:
        raise ValueError(
            f"`metric` must name one number of a step, but {name!r} holds "
            f"{len(inside)}: {', '.join(map(repr, inside))}. Choose one of them."
        )
    raise ValueError(
        f"`metric`: there is no {name!r} among the metrics. {closest(name, leaves)}"
    )


class MetricOf(eqx.Module):
    """Selects a metric of each step, as `metric_of`."""

    name: str = eqx.field(static=True)

    def __call__(self, state: Any, metrics: Any) -> Array:
        """Return the metric as one number."""
        del state
        return metric_of(metrics, self.name)
