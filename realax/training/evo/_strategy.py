"""evosax's algorithms, both of their kinds, behind one value-keyed description."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..._errors import closest
from ..._tree import Frozen, strong
from ..._types import PRNGKeyArray, Tree


@runtime_checkable
class Algorithm(Protocol):
    """The part of evosax's `EvolutionaryAlgorithm` that is used."""

    population_size: int
    num_dims: int
    solution: Any

    @property
    def default_params(self) -> Any:
        """The algorithm's parameters."""
        ...

    # Its `init` takes other arguments in each of the two kinds.
    init: Any

    def ask(self, key: Any, state: Any, params: Any) -> Any:
        """`(population, state)`."""
        ...

    def tell(
        self, key: Any, population: Any, fitness: Any, state: Any, params: Any
    ) -> Any:
        """`(state, metrics)`."""
        ...


# Names that scripts written for evosax 0.1 still use.
_OLDER_NAMES = {
    "OpenES": "Open_ES",
    "SimAnneal": "SimulatedAnnealing",
    "Full_iAMaLGaM": "iAMaLGaM_Full",
    "Indep_iAMaLGaM": "iAMaLGaM_Univariate",
    "RmES": "Rm_ES",
    "GLD": "GradientlessDescent",
    "HillClimber": "HillClimbing",
    "DE": "DifferentialEvolution",
    "LGA": "LearnedGA",
}

# Where evosax's own defaults hardly learn. Open_ES: sgd at 1e-3 and deviation 1.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Open_ES": {"optimizer": "adam", "learning_rate": 0.05, "std": 0.1},
}

# Arguments that are set from elsewhere.
_TAKEN = {"self", "population_size", "solution", "metrics_fn"}


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Which algorithm, for how many individuals of how many numbers.

    Equal descriptions give the same algorithm object, and so the same compiled program.
    """

    algorithm: str | Algorithm
    popsize: int
    dims: int
    kws: Frozen

    @property
    def built(self) -> Algorithm:
        """evosax's algorithm."""
        return _build(self)

    @property
    def population_based(self) -> bool:
        """Whether it carries a population on instead of a distribution."""
        return isinstance(self.built, _population_based())

    def params(self, given: Any) -> Any:
        """evosax's Params with array leaves, its defaults replaced by what is `given`.

        **Arguments:**

        - `given`: `None`, a mapping from names to values, or a whole Params.

        **Raises:** `ValueError` with the closest matches for an unknown name.
        """
        with jax.ensure_compile_time_eval():
            defaults = strong(self.built.default_params)
        if given is None:
            return defaults
        known = {
            f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)
        }
        if isinstance(given, type(defaults)):
            given = {name: getattr(given, name) for name in known}
        if not isinstance(given, Mapping):
            raise TypeError(
                f"`es_params` must be a mapping or {type(defaults).__qualname__} of "
                f"{type(self.built).__name__}, but a {type(given).__name__} came."
            )
        for name in given:
            if name not in known:
                raise ValueError(
                    f"`es_params` of {type(self.built).__name__} have no {name!r}. "
                    f"{closest(name, known)}"
                )
        return dataclasses.replace(
            defaults,
            **{
                name: jax.tree.map(
                    lambda value, like: jnp.asarray(value, like.dtype),
                    value,
                    known[name],
                )
                for name, value in given.items()
            },
        )

    def init(self, key: PRNGKeyArray, mean: Float[Array, " dims"], params: Any) -> Any:
        """The algorithm's first state, around `mean`.

        A population-based one holds copies of `mean` that lost to everything, and waits
        for `begin`.
        """
        if not self.population_based:
            return strong(self.built.init(key, self._unravel(mean), params))
        population = jnp.broadcast_to(mean, (self.popsize, self.dims))
        fitness = jnp.full(self.popsize, jnp.inf, mean.dtype)
        return self.begin(key, population, fitness, params)

    def begin(
        self,
        key: PRNGKeyArray,
        population: Float[Array, "pop dims"],
        fitness: Float[Array, " pop"],
        params: Any,
    ) -> Any:
        """A population-based algorithm's state from its first evaluated population."""
        population = jax.vmap(self._unravel)(population)
        return strong(self.built.init(key, population, fitness, params))

    def ask(
        self, key: PRNGKeyArray, state: Any, params: Any
    ) -> tuple[Float[Array, "pop dims"], Any]:
        """A generation, one flat individual a row, and the state with it."""
        population, state = self.built.ask(key, state, params)
        leaves = [
            leaf.reshape(self.popsize, -1) for leaf in jax.tree.leaves(population)
        ]
        return jnp.concatenate(leaves, axis=-1), strong(state)

    def tell(
        self,
        key: PRNGKeyArray,
        population: Float[Array, "pop dims"],
        fitness: Float[Array, " pop"],
        state: Any,
        params: Any,
    ) -> Any:
        """The state after a generation was evaluated; smaller fitness is better."""
        population = jax.vmap(self._unravel)(population)
        state, _ = self.built.tell(key, population, fitness, state, params)
        return strong(state)

    def _unravel(self, flat: Float[Array, " dims"]) -> Tree:
        # By name, solutions are flat; an instance may have been built for a tree.
        return ravel_pytree(self.built.solution)[1](flat)


@functools.lru_cache(maxsize=256)
def _build(strategy: Strategy) -> Algorithm:
    if not isinstance(strategy.algorithm, str):
        return _checked_instance(strategy)
    name = resolve(strategy.algorithm)
    cls = _algorithms()[name]
    # Under jit, what is built here would hold tracers and outlive them in the cache.
    with jax.ensure_compile_time_eval():
        solution = jnp.zeros(strategy.dims)
        kws = _constructor_kws(name, cls, strategy.kws.thaw())
        try:
            return cls(population_size=strategy.popsize, solution=solution, **kws)
        except AssertionError as error:
            raise ValueError(
                f"{name} refuses `popsize={strategy.popsize}`: {error}"
            ) from error


# Imported late: evosax's algorithms, flax and optax would cost every script a third of
# the time that importing jax takes.


def _algorithms() -> Mapping[str, Any]:
    from evosax.algorithms import algorithms

    return algorithms


def _population_based() -> type:
    from evosax.algorithms.population_based.base import PopulationBasedAlgorithm

    return PopulationBasedAlgorithm


def resolve(name: str) -> str:
    """evosax's key for an algorithm's name, class name or older spelling.

    **Raises:** `ValueError` with the closest matches for an unknown name.
    """
    algorithms = _algorithms()
    classes = {cls.__name__: key for key, cls in algorithms.items()}
    known = {key: key for key in algorithms} | classes
    known |= {older: known[newer] for older, newer in _OLDER_NAMES.items()}
    if name not in known:
        raise ValueError(f"`strategy`: evosax has no {name!r}. {closest(name, known)}")
    return known[name]


def _checked_instance(strategy: Strategy) -> Any:
    algorithm: Any = strategy.algorithm
    if strategy.kws.items:
        raise ValueError(
            "`es_kws` are for a strategy given by name, but an instance of "
            f"{type(algorithm).__name__} came. Pass them to its constructor instead."
        )
    expected = (strategy.popsize, strategy.dims)
    came = (algorithm.population_size, algorithm.num_dims)
    if came != expected:
        raise ValueError(
            f"`strategy` was built for (population, numbers) = {came}, but `popsize` "
            f"and `params_like` make {expected}. Build it with the same."
        )
    return algorithm


def _constructor_kws(name: str, cls: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for an algorithm's constructor, optimiser and deviation by value."""
    accepted = set(inspect.signature(cls.__init__).parameters) - _TAKEN
    by_value = {
        value
        for value, target in (("learning_rate", "optimizer"), ("std", "std_schedule"))
        if target in accepted
    }
    for keyword in given:
        if keyword not in accepted | by_value:
            raise ValueError(
                f"`es_kws`: {name} takes no {keyword!r}. "
                f"{closest(keyword, accepted | by_value)}"
            )
    kws = dict(_DEFAULTS.get(name, {}))
    if "optimizer" in given and "learning_rate" not in given:
        kws.pop("learning_rate", None)
    if "std_schedule" in given:
        kws.pop("std", None)
    kws |= given
    if "std" in kws:
        std = kws.pop("std")
        kws["std_schedule"] = std if callable(std) else _constant(std)
    if "learning_rate" in kws or isinstance(kws.get("optimizer"), str):
        kws["optimizer"] = _optimizer(
            name, kws.get("optimizer"), kws.pop("learning_rate", None)
        )
    return kws


def _constant(value: float) -> Callable[[Any], Any]:
    import optax

    return optax.constant_schedule(value)


def _optimizer(name: str, optimizer: Any, learning_rate: Any) -> Any:
    if not isinstance(optimizer, str) or learning_rate is None:
        raise ValueError(
            f"`es_kws` of {name} must name `optimizer` and `learning_rate` together, "
            "for example `optimizer='adam', learning_rate=0.01`, or give an optax "
            f"optimiser alone; {optimizer!r} and {learning_rate!r} came."
        )
    import optax

    factory = getattr(optax, optimizer, None)
    if factory is None:
        known = (n for n in dir(optax) if n[0].islower())
        raise ValueError(
            f"`es_kws`: optax has no optimiser {optimizer!r}. "
            f"{closest(optimizer, known)}"
        )
    return factory(learning_rate)
