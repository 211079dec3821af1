"""Observers of a user's own, one with a field."""

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import Array

import realax as rx


class Below(eqx.Module):
    """Selects whether the best fitness is below a limit."""

    limit: float

    def __call__(self, state: rx.ESState[Array], metrics: rx.ESMetrics) -> Array:
        return metrics["best_fitness"] < self.limit


class Threshold(rx.AbstractObserver):
    """Remembers the last step at which the best fitness was below a limit."""

    limit: float
    last: rx.Handle[int] = eqx.field(static=True, default_factory=rx.Handle[int])

    def select(self, run: rx.Run) -> Below:
        return Below(self.limit)

    def on_chunk(self, steps: np.ndarray, selected: np.ndarray, state: object) -> None:
        if selected.any():
            self.last.value = int(steps[selected][-1])


def sphere(x: Array, key: Array, data: None = None) -> tuple[Array, None]:
    return (x**2).sum(), None


def main() -> tuple[int | None, int | None]:
    """The steps that were found."""
    by_position, by_name = Threshold(0.5), Threshold(limit=0.1, every=5)
    rx.evolve(
        jr.normal(jr.key(1), (2,)),
        sphere,
        jr.key(0),
        popsize=8,
        steps=40,
        callbacks=(by_position, by_name, rx.ProgressBar("mean_fitness")),
    )
    return by_position.last.value, by_name.last.value


if __name__ == "__main__":
    print(main())
