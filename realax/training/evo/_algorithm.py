"""evosax's algorithms, built from their names and keywords."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._arguments import flag, number, whole
from ..._errors import closest, describe
from ..._keys import quick
from ..._types import PRNGKeyArray
from .._checks import check_rate
from .._optimizers import build_optimizer
from ._names import resolve


# evosax's algorithms, flax and optax are imported late: they would cost every script a
# third of the time that importing jax takes.


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
        """Return `(population, state)`."""
        ...

    def tell(
        self, key: Any, population: Any, fitness: Any, state: Any, params: Any
    ) -> Any:
        """Return `(state, metrics)`."""
        ...


def algorithm(phrase: str, value: Any) -> Any:
    """Check an algorithm's name, or an instance of one."""
    if isinstance(value, str) or (
        isinstance(value, Algorithm) and not isinstance(value, type)
    ):
        return value
    what = f"the class {value.__name__}" if isinstance(value, type) else describe(value)
    raise TypeError(
        f"{phrase} must be the name of an algorithm of evosax, or an instance of one, "
        f'but got {what}. For example: `"CMA_ES"`.'
    )


# Defaults for algorithms that hardly learn with evosax's own, which are optimisers at
# 1e-3 and deviations of 1. `benchmarks/evolution_defaults.py` measures both.
_ADAM = {"optimizer": "adam", "learning_rate": 0.05, "std": 0.1}
_LEARNS: Mapping[str, Mapping[str, Any]] = {
    "ARS": _ADAM,
    "ASEBO": _ADAM,
    "ESMC": _ADAM,
    "GuidedES": _ADAM,
    "HillClimbing": {"std": 0.1},
    "NoiseReuseES": _ADAM,
    "Open_ES": _ADAM,
    "PersistentES": _ADAM,
    "SV_Open_ES": _ADAM,
    "SimpleGA": {"std": 0.1},
    "SimulatedAnnealing": {"std": 0.1},
}

# Arguments that have no default in evosax.
_NEEDED: Mapping[str, Mapping[str, Any]] = {
    "RandomSearch": {"std": 1.0},
    "SV_CMA_ES": {"num_populations": 4},
    "SV_Open_ES": {"num_populations": 4},
}

# Constructor arguments that are set from elsewhere.
_TAKEN = {"self", "population_size", "solution", "metrics_fn"}

# Arguments that may be given by value instead of as an object.
_BY_VALUE = {
    "optimizer": "learning_rate",
    "std_schedule": "std",
    "sampling_fn": "std",
}


def build(name: str, popsize: int, dims: int, given: Mapping[str, Any]) -> Algorithm:
    """Build evosax's algorithm for flat solutions.

    **Arguments:**

    - `name`: a name that `resolve` knows.
    - `popsize`: the number of individuals in all populations.
    - `dims`: the number of parameters of each.
    - `given`: arguments for its constructor, some of them by value.

    **Raises:** `ValueError` for an unknown name or keyword, with the closest matches,
    and for a population that the algorithm refuses.
    """
    from evosax.algorithms import algorithms

    name = resolve(name)
    cls = algorithms[name]
    parameters = inspect.signature(cls.__init__).parameters
    accepted = set(parameters) - _TAKEN
    accepted |= {value for name, value in _BY_VALUE.items() if name in accepted}
    for keyword in given:
        if keyword not in accepted:
            raise ValueError(
                f"`es_kws`: {name} takes no {keyword!r}. {closest(keyword, accepted)}"
            )
    given = {
        keyword: _checked(name, keyword, value, parameters.get(keyword))
        for keyword, value in given.items()
    }
    kws = _objects(name, dims, _with_defaults(name, given))
    groups = kws.get("num_populations", 1)
    if popsize % groups:
        raise ValueError(
            f"`popsize` of {name} must be a multiple of `num_populations={groups}`, "
            f"but got {popsize}. It is the number of individuals in all populations."
        )
    try:
        algorithm = cls(
            population_size=popsize // groups, solution=jnp.zeros(dims), **kws
        )
        # LM_MA_ES computes here some numbers that its `init` needs, and some algorithms
        # divide by the size of the population.
        _ = algorithm.default_params
    except (AssertionError, ArithmeticError) as error:
        raise ValueError(f"{name} refuses `popsize={popsize}`: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{name} refuses `es_kws={dict(given)}`: {error}") from error
    return algorithm


def _checked(
    name: str, keyword: str, value: Any, parameter: inspect.Parameter | None
) -> Any:
    """Check that a constructor's argument is of the kind that the algorithm takes."""
    phrase = f"`es_kws` of {name}: {keyword!r}"
    if parameter is not None and value is parameter.default:
        return value
    if keyword in ("learning_rate", "std") and not callable(value):
        return number(least=0.0)(phrase, value)
    kind = None if parameter is None else parameter.annotation
    if kind is int:
        return whole()(phrase, value)
    if kind is bool:
        return flag(phrase, value)
    takes_text = keyword == "optimizer" or "str" in str(kind)
    if value is None or isinstance(value, str) and not takes_text:
        raise TypeError(
            f"{phrase} must be what evosax's constructor takes, but got "
            f"{describe(value)}. Leave it out for its default."
        )
    return value


def _with_defaults(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults updated by `given`, whose objects replace values."""
    defaults = {**_LEARNS.get(name, {}), **_NEEDED.get(name, {})}
    for target, value in _BY_VALUE.items():
        if target in given:
            defaults.pop(value, None)
    return {**defaults, **given}


def _objects(name: str, dims: int, kws: dict[str, Any]) -> dict[str, Any]:
    """Return `kws` with optimisers, schedules and samplers in place of values."""
    if name == "RandomSearch" and "std" in kws:
        kws["sampling_fn"] = functools.partial(_normal, dims, kws.pop("std"))
    if "std" in kws:
        kws["std_schedule"] = _schedule(kws.pop("std"))
    if callable(kws.get("std_schedule")):
        _schedule(kws["std_schedule"])
    if "std_schedule" in kws and not callable(kws["std_schedule"]):
        raise ValueError(
            f"`es_kws` of {name}: `std_schedule` must be a function of the generation, "
            f"but got {kws['std_schedule']!r}. A number goes into `std`."
        )
    if "optimizer" in kws and not isinstance(kws["optimizer"], str):
        if not hasattr(kws["optimizer"], "init"):
            raise ValueError(
                f"`es_kws` of {name}: `optimizer` must be a name or an optimiser, such "
                f"as `optax.adam(0.01)`, but got {kws['optimizer']!r}."
            )
    if "learning_rate" in kws or isinstance(kws.get("optimizer"), str):
        rate = kws.pop("learning_rate", None)
        kws["optimizer"] = _optimizer(name, kws.get("optimizer"), rate)
    return kws


def _normal(dims: int, std: float | int, key: PRNGKeyArray) -> Float[Array, " dims"]:
    return std * jr.normal(quick(key), (dims,))


def _schedule(std: Any) -> Callable[[Any], Any]:
    import optax

    if callable(std):
        phrase = "`es_kws`: the schedule of the deviation"
        check_rate(phrase, std(jnp.zeros((), jnp.int32)))
        return std
    return optax.constant_schedule(float(std))


def _optimizer(name: str, optimizer: Any, learning_rate: Any) -> Any:
    if not isinstance(optimizer, str) or learning_rate is None:
        raise ValueError(
            f"`es_kws` of {name} must name `optimizer` and `learning_rate` together, "
            "for example `optimizer='adam', learning_rate=0.01`, or give an optax "
            f"optimiser alone, but got {optimizer!r} and {learning_rate!r}."
        )
    if callable(learning_rate):
        rate = learning_rate(jnp.zeros((), jnp.int32))
        check_rate(f"`es_kws` of {name}: `learning_rate`", rate)
    return build_optimizer(optimizer, learning_rate, argument="es_kws")
