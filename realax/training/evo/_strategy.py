"""One interface to evosax's algorithms of all kinds, which compares by value."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..._frozen import Frozen, cached
from ..._keys import fold_in, quick
from ..._trees import strong
from ..._types import PRNGKeyArray, Tree
from ._algorithm import Algorithm, build
from ._names import resolve
from ._params import updated_params


@dataclasses.dataclass(frozen=True)
class _Built:
    """An algorithm of evosax, and its kind.

    - `algorithm`: the algorithm.
    - `population_based`: whether its state is a population and not a distribution.
    - `stein`: whether it is Stein variational: populations that repel one another.
    - `groups`: the number of its populations.
    - `has_deviation`: whether its parameters have the initial deviation `std_init`.
    """

    algorithm: Algorithm
    population_based: bool
    stein: bool
    groups: int
    has_deviation: bool

    @classmethod
    def of(cls, algorithm: Algorithm) -> "_Built":
        """Describe an algorithm."""
        from evosax.algorithms.population_based.base import PopulationBasedAlgorithm

        # LM_MA_ES computes here some numbers that its `init` needs.
        params: Any = algorithm.default_params
        groups = getattr(algorithm, "num_populations", None)
        return cls(
            algorithm=algorithm,
            population_based=isinstance(algorithm, PopulationBasedAlgorithm),
            stein=groups is not None,
            groups=1 if groups is None else groups,
            has_deviation=hasattr(params, "std_init"),
        )


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
    def name(self) -> str:
        """The name of the algorithm in messages."""
        return type(self._algorithm).__name__

    @property
    def population_based(self) -> bool:
        """True if the algorithm's state is a population instead of a distribution."""
        return _built(self).population_based

    @property
    def groups(self) -> int:
        """The number of populations."""
        return _built(self).groups

    @property
    def _algorithm(self) -> Algorithm:
        return _built(self).algorithm

    @property
    def _samples_around_zero(self) -> bool:
        # Random search by name, unless the user gave a sampler.
        if not isinstance(self.algorithm, str):
            return False
        return resolve(self.algorithm) == "RandomSearch" and (
            "sampling_fn" not in dict(self.kws.items)
        )

    def full_params(self, given: Any) -> Any:
        """Return evosax's Params with array leaves: the defaults, updated by `given`.

        **Arguments:**

        - `given`: `None`, a mapping from names to values, or a whole Params.

        **Raises:** `ValueError` with the closest matches for an unknown name.
        """
        with jax.ensure_compile_time_eval():
            defaults = strong(self._algorithm.default_params)
        if isinstance(self.algorithm, str) and self.name == "LM_MA_ES":
            # It is above 2 if there are more than two individuals for each number. The
            # state would then be multiplied by the root of a negative number.
            clipped = jnp.minimum(defaults.c_c, 1.0)
            defaults = dataclasses.replace(defaults, c_c=clipped)
        return updated_params(self.name, defaults, given)

    def init(self, key: PRNGKeyArray, start: Float[Array, " dims"], params: Any) -> Any:
        """Return the first state of an algorithm with a distribution around `start`."""
        if not _built(self).stein:
            state = self._algorithm.init(key, self._unravel(start), params)
            return _precise(strong(state), start.dtype)
        # One population starts at `start`. The others are sampled with the initial
        # deviation, because equal populations would stay equal.
        means = jnp.broadcast_to(start, (self.groups, self.dims))
        state = self._algorithm.init(key, jax.vmap(self._unravel)(means), params)
        deviation = jnp.reshape(state.std, (self.groups, -1)).at[0].set(0.0)
        noise = jr.normal(quick(fold_in(key, 0)), means.shape, means.dtype)
        state = state.replace(mean=means + deviation * noise)
        return _precise(strong(state), start.dtype)

    def init_population(
        self,
        key: PRNGKeyArray,
        population: Float[Array, "pop dims"],
        fitness: Float[Array, " pop"],
        params: Any,
    ) -> Any:
        """Return the state of a population-based algorithm with its first one."""
        population = jax.vmap(self._unravel)(population)
        return strong(self._algorithm.init(key, population, fitness, params))

    def first_population(
        self, key: PRNGKeyArray, start: Float[Array, " dims"], params: Any
    ) -> Float[Array, "pop dims"]:
        """Return the first population of a population-based algorithm.

        It is `start` and others around it, with the algorithm's own deviation
        `std_init`, or 1 if it has none: the first population is to cover the search
        space, however small later mutations are.
        """
        std = params.std_init if _built(self).has_deviation else 1.0
        noise = jr.normal(quick(key), (self.popsize, self.dims), start.dtype)
        return start + std * noise.at[0].set(0.0)

    def ask(
        self,
        key: PRNGKeyArray,
        state: Any,
        params: Any,
        start: Float[Array, " dims"],
    ) -> tuple[Float[Array, "pop dims"], Any]:
        """Return a generation, one individual in each row, and the state after it."""
        population, state = self._algorithm.ask(key, state, params)
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
        """Return the state after an evaluated generation; smaller fitness is better."""
        tree = jax.vmap(self._unravel)(population)
        if _built(self).stein:
            tree = jax.tree.map(
                lambda leaf: leaf.reshape(self.groups, -1, *leaf.shape[1:]), tree
            )
        state, _ = self._algorithm.tell(key, tree, fitness, state, params)
        return strong(state)

    def _unravel(self, flat: Float[Array, " dims"]) -> Tree:
        # By name, solutions are flat; an instance may have been built for a tree.
        return ravel_pytree(self._algorithm.solution)[1](flat)


def _precise(state: Any, dtype: Any) -> Any:
    """Return `state` with all floats of one type. Some algorithms use float32."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )


@cached
def _built(strategy: Strategy) -> _Built:
    # Under jit, the algorithm would hold tracers and outlive them in the cache.
    with jax.ensure_compile_time_eval():
        given, kws = strategy.algorithm, strategy.kws.thaw()
        if isinstance(given, str):
            return _Built.of(build(given, strategy.popsize, strategy.dims, kws))
        built = _Built.of(given)
    _check_fits(built, strategy)
    return built


def _check_fits(built: _Built, strategy: Strategy) -> None:
    """Refuse an instance of an algorithm that was built for other individuals.

    **Raises:** `ValueError`.
    """
    algorithm = built.algorithm
    name = type(algorithm).__name__
    if strategy.kws.items:
        raise ValueError(
            "`es_kws` are for a strategy given by name, but got an instance of "
            f"{name}. Pass them to its constructor instead."
        )
    found = (built.groups * algorithm.population_size, algorithm.num_dims)
    expected = (strategy.popsize, strategy.dims)
    if found != expected:
        raise ValueError(
            f"`strategy`, an instance of {name}, was built for (individuals, numbers) "
            f"= {found}, but `popsize` and `params_like` make {expected}. Build it "
            "with the same."
        )
