"""One interface to evosax's algorithms of all kinds, which compares by value."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..._frozen import Frozen, cached
from ..._trees import strong
from ..._types import PRNGKeyArray, Tree
from ._algorithm import Algorithm, build
from ._names import resolve
from ._params import updated_params


@dataclasses.dataclass(frozen=True)
class Strategy:
    """An algorithm for a population of a given size and dimension.

    Individuals are rows of flat numbers. Equal descriptions give the same
    algorithm object, and so the same compiled program.
    """

    algorithm: str | Algorithm
    popsize: int
    dims: int
    kws: Frozen

    @property
    def built(self) -> Algorithm:
        """evosax's algorithm."""
        return _built(self)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return type(self.built).__name__

    @property
    def population_based(self) -> bool:
        """Whether its state is a population instead of a distribution."""
        from evosax.algorithms.population_based.base import PopulationBasedAlgorithm

        return isinstance(self.built, PopulationBasedAlgorithm)

    @property
    def stein(self) -> bool:
        """Whether it is Stein variational: populations that repel one another."""
        return hasattr(self.built, "num_populations")

    @property
    def groups(self) -> int:
        """How many populations it has."""
        return getattr(self.built, "num_populations", 1)

    @property
    def _samples_around_zero(self) -> bool:
        # Random search by name, without a sampler of the user's own.
        if not isinstance(self.algorithm, str):
            return False
        return resolve(self.algorithm) == "RandomSearch" and (
            "sampling_fn" not in dict(self.kws.items)
        )

    def full_params(self, given: Any) -> Any:
        """evosax's Params with array leaves: its defaults, updated by those `given`.

        **Arguments:**

        - `given`: `None`, a mapping from names to values, or a whole Params.

        **Raises:** `ValueError` with the closest matches for an unknown name.
        """
        with jax.ensure_compile_time_eval():
            defaults = strong(self.built.default_params)
        if isinstance(self.algorithm, str) and self.name == "LM_MA_ES":
            # Above 2, which it is for more than 2 individuals a number, the state would
            # be multiplied with the root of a negative number.
            clipped = jnp.minimum(defaults.c_c, 1.0)
            defaults = dataclasses.replace(defaults, c_c=clipped)
        return updated_params(self.name, defaults, given)

    def init(self, key: PRNGKeyArray, start: Float[Array, " dims"], params: Any) -> Any:
        """The first state, around `start`, of an algorithm with a distribution."""
        if not self.stein:
            state = self.built.init(key, self._unravel(start), params)
            return _precise(strong(state), start.dtype)
        # One population starts at `start`, the others around it, within the deviation
        # that they will sample with: started at one place, they would never part.
        means = jnp.broadcast_to(start, (self.groups, self.dims))
        state = self.built.init(key, jax.vmap(self._unravel)(means), params)
        deviation = jnp.reshape(state.std, (self.groups, -1)).at[0].set(0.0)
        noise = jr.normal(jr.fold_in(key, 0), means.shape, means.dtype)
        state = state.replace(mean=means + deviation * noise)
        return _precise(strong(state), start.dtype)

    def init_population(
        self,
        key: PRNGKeyArray,
        population: Float[Array, "pop dims"],
        fitness: Float[Array, " pop"],
        params: Any,
    ) -> Any:
        """A population-based algorithm's state, from its evaluated first population."""
        population = jax.vmap(self._unravel)(population)
        return strong(self.built.init(key, population, fitness, params))

    def first_population(
        self, key: PRNGKeyArray, start: Float[Array, " dims"], params: Any
    ) -> Float[Array, "pop dims"]:
        """A population-based algorithm's first population: around and with `start`.

        Their deviation is the algorithm's own `std_init`, or 1 where it has none: the
        first population is to cover the ground, however small later mutations are.
        """
        std = getattr(params, "std_init", 1.0)
        noise = jr.normal(key, (self.popsize, self.dims), start.dtype)
        return start + std * noise.at[0].set(0.0)

    def ask(
        self,
        key: PRNGKeyArray,
        state: Any,
        params: Any,
        start: Float[Array, " dims"],
    ) -> tuple[Float[Array, "pop dims"], Any]:
        """A generation, one flat individual in each row, and the state after it."""
        population, state = self.built.ask(key, state, params)
        leaves = jax.tree.leaves(population)
        rows = [leaf.reshape(self.popsize, -1) for leaf in leaves]
        flat = jnp.concatenate(rows, axis=-1)
        return (start + flat if self._samples_around_zero else flat), strong(state)

    def tell(
        self,
        key: PRNGKeyArray,
        population: Float[Array, "pop dims"],
        fitness: Float[Array, " pop"],
        state: Any,
        params: Any,
    ) -> Any:
        """The state after an evaluated generation; smaller fitness is better."""
        tree = jax.vmap(self._unravel)(population)
        if self.stein:
            tree = jax.tree.map(
                lambda leaf: leaf.reshape(self.groups, -1, *leaf.shape[1:]), tree
            )
        state, _ = self.built.tell(key, tree, fitness, state, params)
        return strong(state)

    def _unravel(self, flat: Float[Array, " dims"]) -> Tree:
        # By name, solutions are flat; an instance may have been built for a tree.
        return ravel_pytree(self.built.solution)[1](flat)


def _precise(state: Any, dtype: Any) -> Any:
    """`state` with all its floats of one type: some algorithms begin with float32."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )


@cached
def _built(strategy: Strategy) -> Algorithm:
    # Under jit, the algorithm would hold tracers and outlive them in the cache.
    with jax.ensure_compile_time_eval():
        if isinstance(strategy.algorithm, str):
            return build(
                strategy.algorithm,
                strategy.popsize,
                strategy.dims,
                strategy.kws.thaw(),
            )
        return _checked(strategy.algorithm, strategy)


def _checked(algorithm: Algorithm, strategy: Strategy) -> Algorithm:
    """Check that an instance of the user's own fits the individuals."""
    name = type(algorithm).__name__
    if strategy.kws.items:
        raise ValueError(
            "`es_kws` are for a strategy given by name, but got an instance of "
            f"{name}. Pass them to its constructor instead."
        )
    groups = getattr(algorithm, "num_populations", 1)
    found = (groups * algorithm.population_size, algorithm.num_dims)
    expected = (strategy.popsize, strategy.dims)
    if found != expected:
        raise ValueError(
            f"`strategy`, an instance of {name}, was built for (individuals, numbers) "
            f"= {found}, but `popsize` and `params_like` make {expected}. Build it "
            "with the same."
        )
    _ = algorithm.default_params  # LM_MA_ES computes here what its `init` needs
    return algorithm
