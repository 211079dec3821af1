"""The contract of stopping rules."""

import abc
import functools
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool


class AbstractCounters(eqx.Module):
    """The counters of a stopping rule, which are a part of the trainer's state.

    Their leaves are arrays, whose types and shapes are the same in every step.
    """

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """A name for the quantity counted, equal for counters that can be exchanged."""


class AbstractStopping[C: AbstractCounters](eqx.Module):
    """A rule that ends a run: its counters, and a condition on them.

    All methods are traced into the compiled step, so that the end of a run does not
    depend on its division into chunks. The counters are saved with the state; the
    condition belongs to the rule, so that a stopped run can continue with another one.
    """

    @abc.abstractmethod
    def initial(self, objective: tuple[str, str]) -> C:
        """Return the counters before the first step.

        **Arguments:**

        - `objective`: the objective of the trainer: the name of a metric, and `"min"`
            or `"max"`.
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
    """Return the counters for `rules`, new ones only if no label in `counters` matches.

    **Arguments:**

    - `counters`: the counters of the state from which a run starts.
    - `rules`: the rules of the trainer.
    - `objective`: the objective of the trainer.
    """
    left = list(counters)
    found = list[AbstractCounters]()
    for rule in rules:
        new = rule.initial(objective)
        match = next((one for one in left if one.label == new.label), None)
        if match is not None:
            left = [one for one in left if one is not match]
        found.append(new if match is None else match)
    return tuple(found)


def is_over(rules: Rules, counters: Counters) -> Bool[Array, ""]:
    """Return whether the run is over by one of the rules."""
    over = [rule.over(one) for rule, one in zip(rules, counters, strict=True)]
    return functools.reduce(jnp.logical_or, over, jnp.asarray(False))
