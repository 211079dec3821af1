"""The guard of evolution against bad fitness and bad updates."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._finite import stays_finite
from ..._types import Tree
from .._streak import PATIENCE
from .._usable import LARGEST, usable_of
from ._shaping import FitnessShaper


class Scores(eqx.Module):
    """The fitness of a generation, and the individuals with a usable one.

    - `fitness`: in the task's own numbers, repetitions averaged.
    - `usable`: whether an individual and its fitness are finite, and the latter at most
        1e15.
    - `costs`: with the sign such that smaller is better; infinite if not usable.
    - `shaped`: the numbers that the algorithm minimises. An individual that is not
        usable counts as the worst usable one, before any shaping.
    """

    fitness: Float[Array, " pop"]
    usable: Bool[Array, " pop"]
    costs: Float[Array, " pop"]
    shaped: Float[Array, " pop"]


def score(
    population: Float[Array, "pop dims"],
    values: Float[Array, "pop reps"],
    shaper: FitnessShaper,
) -> Scores:
    """Score a generation.

    **Arguments:**

    - `population`: one flat individual in each row.
    - `values`: the values of each in each repetition, in the task's own numbers.
    - `shaper`: the direction and shaping of fitness.
    """
    fitness = jnp.mean(values, axis=-1)
    usable = usable_of(population, fitness)
    cost = shaper.cost(fitness)

    def replaced() -> Any:
        worst = jnp.max(jnp.where(usable, cost, -jnp.inf))
        return jnp.where(usable, fitness, shaper.cost(worst))

    ranked = jax.lax.cond(jnp.all(usable), lambda: fitness, replaced)
    return Scores(
        fitness=fitness,
        usable=usable,
        costs=jnp.where(usable, cost, jnp.inf),
        shaped=shaper(population, ranked),
    )


def initial_costs(scores: Scores) -> Float[Array, " pop"]:
    """Return the costs of a population-based algorithm's first population.

    They are `scores.shaped`. If no individual is usable, all have the cost 1e15, so
    that any usable one replaces them later. Infinity would turn the updates of some
    algorithms into NaN.
    """
    return jnp.where(jnp.any(scores.usable), scores.shaped, LARGEST)


def is_sound(scores: Scores, before: Tree, after: Tree) -> Bool[Array, ""]:
    """Return whether to accept an update of the algorithm's state.

    It is refused if no individual is usable, or if a finite number of the state would
    cease to be finite.
    """
    return jnp.any(scores.usable) & stays_finite(before, after)


def refusal_warning(refused: int, name: str) -> str | None:
    """Return a warning if a hundred updates of `name` in a row were refused."""
    if refused < PATIENCE:
        return None
    return (
        f"{refused} updates in a row of {name} were refused, because no fitness was "
        "finite or its state would have turned NaN or infinite. Either it has "
        "converged, and fewer steps would do, or the task fails: look at "
        '`data["metrics"]["failed"]`.'
    )
