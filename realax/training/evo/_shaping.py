"""The direction of fitness, and its shaping for the algorithm."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ..._arguments import Check, arguments, flag, instance, number, optional


def _weight(value: ArrayLike) -> Float[Array, ""] | float:
    """Return an array leaf, or the number 0, which needs no computation."""
    if isinstance(value, int | float) and value == 0:
        return 0.0
    return jnp.asarray(value, dtype=float)


class FitnessShaper(eqx.Module):
    """Shapes the fitness of a generation for the algorithm.

    Only the algorithm sees shaped values: metrics and the best fitness stay in the
    task's own numbers. The algorithm's own shaping (CMA-ES's weights, for example)
    comes after. Steps are taken in the order of the arguments below, with evosax's
    functions.

    **Arguments:**

    - `maximize`: whether larger is better; `None`: as the task says, and a plain
        function is minimised.
    - `w_decay`: a factor. The sum of squared parameters times this is added to the
        cost of an individual.
    - `centered_rank`: ranks, in [-0.5, 0.5].
    - `z_score`: zero mean and unit deviation.
    - `norm_range`: linearly to [-1, 1].
    """

    maximize: bool | None = eqx.field(static=True)
    centered_rank: bool = eqx.field(static=True)
    z_score: bool = eqx.field(static=True)
    norm_range: bool = eqx.field(static=True)
    w_decay: Float[Array, ""] | float

    @arguments(
        maximize=optional(flag),
        centered_rank=flag,
        z_score=flag,
        norm_range=flag,
        w_decay=number(),
    )
    def __init__(
        self,
        maximize: bool | None = None,
        centered_rank: bool = False,
        z_score: bool = False,
        norm_range: bool = False,
        w_decay: ArrayLike = 0.0,
    ):
        self.maximize = maximize
        self.centered_rank = centered_rank
        self.z_score = z_score
        self.norm_range = norm_range
        self.w_decay = _weight(w_decay)

    def directed(self, maximize: bool) -> "FitnessShaper":
        """Return this shaper with a direction: its own, or else the one given here."""
        return FitnessShaper(
            maximize if self.maximize is None else self.maximize,
            self.centered_rank,
            self.z_score,
            self.norm_range,
            self.w_decay,
        )

    def cost(self, fitness: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return fitness with the sign such that smaller is better; its own inverse."""
        return -fitness if self.maximize else fitness

    def __call__(
        self, population: Float[Array, "pop dims"], fitness: Float[Array, " pop"]
    ) -> Float[Array, " pop"]:
        """Return the numbers that the algorithm minimises.

        **Arguments:**

        - `population`: one flat individual in each row.
        - `fitness`: in the task's own numbers.
        """
        # Imported late, because evosax takes long and is not needed before.
        from evosax.core.fitness_shaping import (
            centered_rank_fitness_shaping_fn,
            normalize_fitness_shaping_fn,
            standardize_fitness_shaping_fn,
        )

        shaped = self.cost(fitness)
        if not isinstance(self.w_decay, float):
            shaped = shaped + self.w_decay * jnp.sum(population**2, axis=-1)
        if self.centered_rank:
            shaped = centered_rank_fitness_shaping_fn(population, shaped, None, None)
        if self.z_score:
            shaped = standardize_fitness_shaping_fn(population, shaped, None, None)
        if self.norm_range:
            shaped = normalize_fitness_shaping_fn(population, shaped, None, None)
        return shaped


shaper: Check = optional(instance(FitnessShaper, "FitnessShaper(maximize=True)"))
