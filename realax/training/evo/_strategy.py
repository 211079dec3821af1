"""evosax's algorithms, of all their kinds, behind one value-keyed description."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..._errors import closest, describe
from ..._frozen import Frozen, cached
from ..._trees import strong
from ..._types import PRNGKeyArray, Tree
from ._algorithm import Algorithm, build, resolve


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Which algorithm, for how many individuals of how many numbers.

    Individuals are rows of flat numbers here. Equal descriptions give the same
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
        """What messages call it."""
        return type(self.built).__name__

    @property
    def population_based(self) -> bool:
        """Whether it carries a population on instead of a distribution."""
        from evosax.algorithms.population_based.base import PopulationBasedAlgorithm

        return isinstance(self.built, PopulationBasedAlgorithm)

    @property
    def stein(self) -> bool:
        """Whether it carries several populations, of the Stein variational kind."""
        return hasattr(self.built, "num_populations")

    @property
    def groups(self) -> int:
        """How many populations it carries."""
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
        """evosax's Params with array leaves, its defaults replaced by what is `given`.

        **Arguments:**

        - `given`: `None`, a mapping from names to values, or a whole Params.

        **Raises:** `ValueError` with the closest matches for an unknown name.
        """
        with jax.ensure_compile_time_eval():
            defaults = strong(self.built.default_params)
        names = [field.name for field in dataclasses.fields(defaults)]
        known = {name: getattr(defaults, name) for name in names}
        if isinstance(self.algorithm, str) and self.name == "LM_MA_ES":
            # Above 2, as for more than 2 individuals a number, it is the root of a
            # negative number that the state is multiplied with.
            known["c_c"] = jnp.minimum(known["c_c"], 1.0)
        if given is None:
            given = {}
        elif isinstance(given, type(defaults)):
            given = {name: getattr(given, name) for name in known}
            shapes = [jax.tree.map(jnp.shape, tree) for tree in (given, known)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"`es_params` must be those of {self.name} with this `popsize` and "
                    "these `params_like`, but got those for others. Give the values "
                    "that shall differ from the defaults, by name, or None: "
                    "`dataclasses.replace(trainer, popsize=..., es_params=None)`."
                )
        elif not isinstance(given, Mapping):
            raise TypeError(
                "`es_params` must be a dictionary of values by name, or the Params of "
                f"{self.name}, but got {describe(given)}. For example: "
                f"`{{'std_init': 0.1}}`."
            )
        for name, value in given.items():
            if name not in known:
                raise ValueError(
                    f"`es_params` of {self.name} have no {name!r}. "
                    f"{closest(name, known)}"
                )
            if jax.tree.structure(value) != jax.tree.structure(known[name]):
                raise TypeError(
                    f"`es_params`: {name!r} must be like {known[name]}, but got "
                    f"{describe(value)}."
                )
            known[name] = jax.tree.map(
                functools.partial(_value, name), value, known[name]
            )
        return dataclasses.replace(defaults, **known)

    def init(self, key: PRNGKeyArray, start: Float[Array, " dims"], params: Any) -> Any:
        """The algorithm's first state, around `start`.

        A population-based one holds copies of `start` that lost to everything, and
        waits for `begin`.
        """
        if self.population_based:
            population = jnp.broadcast_to(start, (self.popsize, self.dims))
            fitness = jnp.full(self.popsize, jnp.inf, start.dtype)
            return self.begin(key, population, fitness, params)
        if not self.stein:
            state = self.built.init(key, self._unravel(start), params)
            return _precise(strong(state), start.dtype)
        # One population starts at `start`. The others lie around it, within the
        # deviation that they will sample with: from one place they could not part.
        means = jnp.broadcast_to(start, (self.groups, self.dims))
        state = self.built.init(key, jax.vmap(self._unravel)(means), params)
        spread = jnp.reshape(state.std, (self.groups, -1)).at[0].set(0.0)
        noise = jr.normal(jr.fold_in(key, 0), means.shape, means.dtype)
        state = state.replace(mean=means + spread * noise)
        return _precise(strong(state), start.dtype)

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

    def first(
        self, key: PRNGKeyArray, start: Float[Array, " dims"], params: Any
    ) -> Float[Array, "pop dims"]:
        """A population-based algorithm's first population: `start`, and around it.

        The deviation is the algorithm's own `std_init`; 1 where it has none, whatever
        it mutates with later: the first population is to cover the ground.
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
        """A generation, one flat individual a row, and the state with it."""
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
        """The state after a generation was evaluated; smaller fitness is better."""
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
    """`state` with all its floats of one type: some of evosax's begin with float32."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )


def _value(name: str, new: Any, default: Array) -> Array:
    phrase = f"`es_params`: {name!r}"
    if not eqx.is_array_like(new):
        raise TypeError(f"{phrase} must be a number, but got {describe(new)}.")
    if jnp.shape(new) != default.shape:
        raise ValueError(
            f"{phrase} must have shape {default.shape}, but got {jnp.shape(new)}. To "
            "try several values, map over trainers: "
            "`jax.vmap(lambda value: eqx.tree_at(lambda t: "
            f"t.es_params.{name}, trainer, value).init_and_train(key))(values)`."
        )
    kinds = jnp.result_type(new), default.dtype
    mixed = (kinds[0] == jnp.bool_) != (kinds[1] == jnp.bool_)
    if mixed or not jnp.can_cast(*kinds, "same_kind"):
        raise ValueError(
            f"{phrase} must be of kind {default.dtype}, but got {kinds[0]}."
        )
    if jnp.issubdtype(default.dtype, jnp.inexact):
        _check_numbers(phrase, new, default, least=0.0 if _deviates(name) else -np.inf)
    return jnp.asarray(new, default.dtype)


def _deviates(name: str) -> bool:
    return name.startswith("std")


def _check_numbers(phrase: str, new: Any, default: Array, least: float) -> None:
    """Refuse NaN, infinity but where it is the default, and numbers below `least`."""
    if isinstance(new, Tracer) or isinstance(default, Tracer):
        return
    numbers = np.asarray(new, np.float64)
    unbounded = not np.all(np.isfinite(np.asarray(default)))
    sound = ~np.isnan(numbers) if unbounded else np.isfinite(numbers)
    if not np.all(sound & (numbers >= least)):
        kind = "finite and not negative" if least == 0 else "finite"
        raise ValueError(f"{phrase} must be {kind}, but got {new}.")


@cached
def _built(strategy: Strategy) -> Algorithm:
    # Under jit, what is built here would hold tracers and outlive them in the cache.
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
    """An instance of the user's own, if it fits what it is to evolve."""
    name = type(algorithm).__name__
    if strategy.kws.items:
        raise ValueError(
            "`es_kws` are for a strategy given by name, but got an instance of "
            f"{name}. Pass them to its constructor instead."
        )
    groups = getattr(algorithm, "num_populations", 1)
    came = (groups * algorithm.population_size, algorithm.num_dims)
    expected = (strategy.popsize, strategy.dims)
    if came != expected:
        raise ValueError(
            f"`strategy`, an instance of {name}, was built for (individuals, numbers) "
            f"= {came}, but `popsize` and `params_like` make {expected}. Build it with "
            "the same."
        )
    _ = algorithm.default_params  # LM_MA_ES counts in here what its `init` needs
    return algorithm
