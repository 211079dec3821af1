"""The contract of rules that end a run."""

import abc
import functools
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool


class AbstractCounters(eqx.Module):
    """The counters of a stopping rule, which are a part of the trainer's state.

    Their leaves are arrays, whose types and shapes stay the same from step to step.
    """

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """The name of what is counted. Counters with equal labels count the same."""


class AbstractStopping[C: AbstractCounters](eqx.Module):
    """A rule that ends a run: its counters, and a condition on them.

    All methods are traced into the compiled step, so that the end of a run does not
    depend on how it is cut into chunks. The counters are saved with the state; the
    condition belongs to the rule, so that a stopped run goes on under another one.
    """

    @abc.abstractmethod
    def begin(self, objective: tuple[str, str]) -> C:
        """Return the counters before the first step.

        **Arguments:**

        - `objective`: the trainer's: the name of a metric, and `"min"` or `"max"`.
        """

    @abc.abstractmethod
    def update(self, counters: C, metrics: Any) -> C:
        """Return the counters after a step.

        **Arguments:**

        - `counters`: the counters before it.
        - `metrics`: the step's metrics.
        """

    @abc.abstractmethod
    def over(self, counters: C) -> Bool[Array, ""]:
        """Return whether a run with these counters is over."""


type Counters = tuple[AbstractCounters, ...]
type Rules = tuple[AbstractStopping[Any], ...]


def with_counters(
    counters: Counters, rules: Rules, objective: tuple[str, str]
) -> Counters:
    """Return counters for `rules`: those of `counters` that count the same, or new.

    **Arguments:**

    - `counters`: of the state with which a run begins.
    - `rules`: of the trainer.
    - `objective`: the trainer's.
    """
    left = list(counters)
    found = list[AbstractCounters]()
    for rule in rules:
        new = rule.begin(objective)
        alike = next((one for one in left if one.label == new.label), None)
        if alike is not None:
            left = [one for one in left if one is not alike]
        found.append(new if alike is None else alike)
    return tuple(found)


def is_over(rules: Rules, counters: Counters) -> Bool[Array, ""]:
    """Return whether one of the rules says that the run is over."""
    over = [rule.over(one) for rule, one in zip(rules, counters, strict=True)]
    return functools.reduce(jnp.logical_or, over, jnp.asarray(False))
