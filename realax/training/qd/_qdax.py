"""Emitters of qdax: `pip install "realax[qdax]"`."""

import sys
from collections.abc import Mapping
from typing import Any, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._trees import strong
from ..._types import PRNGKeyArray, Tree
from ._elites import Elites, Told
from ._emitter import AbstractEmitter
from ._slopes import SlopesAt


_BRAX = "it needs `brax.v1`, which today's brax no longer has."
# Emitters of qdax 0.5.0 that cannot be imported beside today's brax and jax, and why.
MISSING: Mapping[str, str] = {
    **dict.fromkeys(("pga_me", "pgame", "pgaemitter"), _BRAX),
    **dict.fromkeys(("dcrl", "dcrl_me", "dcrlme", "dcrl-me"), _BRAX),
    **dict.fromkeys(("qdpg", "qpg", "qualitypg", "dpg", "diversitypg"), _BRAX),
    **dict.fromkeys(("me_pbt", "mepbt", "pbt", "pbt_me", "pbtme"), _BRAX),
    "dads": "it needs tensorflow-probability, which does not import on today's jax.",
}


def is_of_qdax(value: Any) -> bool:
    """Return whether a value is an emitter of qdax, without importing it."""
    module = sys.modules.get("qdax.core.emitters.emitter")
    return module is not None and isinstance(value, module.Emitter)


@final
class QDaxEmitter(AbstractEmitter):
    """An emitter of qdax, on realax's archives and with its guards.

    Its genotypes are flat arrays. An individual that is not usable is told as the best
    elite with a fitness below all others, because qdax's emitters rank NaN first. An
    emitter that needs gradients or other extra scores of the task finds none.

    **Arguments:**

    - `emitter`: the emitter, whose `batch_size` is the population size. Two trainers
        share a compiled program if they share the emitter.
    """

    emitter: Any = eqx.field(static=True)

    def check(self, popsize: int) -> None:
        """Refuse a population size other than the emitter's own."""
        size = int(self.emitter.batch_size)
        if size != popsize:
            raise ValueError(
                f"`popsize` must be the `batch_size` of {type(self.emitter).__name__}, "
                f"{size}, but got {popsize}."
            )

    def init(self, key: PRNGKeyArray, told: Told, elites: Elites) -> Tree:
        """Return the emitter's state after the first population."""
        arguments = _guarded(told, elites)
        return strong(self.emitter.init(key, _repertoire(elites), *arguments, {}))

    def ask(
        self,
        key: PRNGKeyArray,
        state: Tree,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None = None,
    ) -> tuple[Float[Array, "pop dims"], Tree]:
        """Return the individuals that the emitter makes."""
        made, extra = self.emitter.emit(_repertoire(elites), state, key)
        population = jnp.asarray(made, elites.flat.dtype)
        shape = (popsize, elites.flat.shape[-1])
        if population.shape != shape:
            raise ValueError(
                f"{type(self.emitter).__name__} must emit {shape} numbers, but got "
                f"{population.shape}. Build it for `popsize` flat individuals."
            )
        return population, (state, extra)

    def tell(self, key: PRNGKeyArray, state: Tree, told: Told, elites: Elites) -> Tree:
        """Return the emitter's state after a generation."""
        del key
        before, extra = cast("tuple[Any, Any]", state)
        after = self.emitter.state_update(
            before, _repertoire(elites), *_guarded(told, elites), extra
        )
        # Its Python numbers and weak types would compile a run again.
        return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, before)


def _repertoire(elites: Elites) -> Any:
    """Return the elites in qdax's form."""
    from qdax.core.containers.mapelites_repertoire import MapElitesRepertoire

    if elites.archive.grows:
        raise ValueError(
            "`archive` must have fixed cells for an emitter of qdax, which searches "
            f"among their centres, but got a {type(elites.archive).__name__}. Use "
            "`GridArchive` or `CVTArchive`, or an emitter by name."
        )
    return MapElitesRepertoire(
        genotypes=elites.flat,
        fitnesses=elites.quality[:, None],
        descriptors=elites.descriptor,
        extra_scores={},
        keys_extra_scores=(),
        centroids=elites.archive.centroids,
    )


def _guarded(told: Told, elites: Elites) -> tuple[Array, Array, Array]:
    """Return genotypes, fitness and descriptors in which all are usable."""
    usable, best = told.usable, jnp.argmax(elites.quality)
    finite = jnp.where(usable, told.quality, jnp.inf)
    worst = jnp.where(jnp.any(usable), jnp.min(finite), 0.0)
    below = worst - 1 - jnp.abs(worst)
    return (
        jnp.where(usable[:, None], told.population, elites.flat[best]),
        jnp.where(usable, told.quality, below),
        jnp.where(usable[:, None], told.descriptor, elites.descriptor[best]),
    )
