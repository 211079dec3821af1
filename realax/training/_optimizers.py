"""optax's optimisers by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax

from .._errors import closest, describe
from .._types import PRNGKeyArray


# optax is imported late: it would cost every script a tenth of a second.


@runtime_checkable
class Optimizer(Protocol):
    """The part of an optax optimiser that is used: `optax.GradientTransformation`."""

    @property
    def init(self) -> Any:
        """`(params) -> state`."""
        ...

    @property
    def update(self) -> Any:
        """`(gradients, state, params, **more) -> (updates, state)`."""
        ...


def optimizer(phrase: str, value: Any) -> Any:
    """Check an optimiser's name, or an instance of one."""
    if isinstance(value, str) or isinstance(value, Optimizer):
        return value
    raise TypeError(
        f"{phrase} must be the name of an optimiser of optax, or an instance such as "
        f"`optax.adam(0.01)`, but got {describe(value)}."
    )


# The names of a learning rate in optax.
_RATES = ("learning_rate", "max_learning_rate")
_EXAMPLES = (
    "dpsgd needs a gradient for each example, but only the loss's value, its gradient "
    "and its function are at hand."
)
# Optimisers that find a learning rate by themselves. Adadelta's default, none, makes
# the loss rise.
_OWN_RATE = {"adafactor", "lbfgs", "polyak_sgd"}


def optimizer_names() -> list[str]:
    """Return the names of the optimisers at optax's top level."""
    import optax
    from optax._src import alias

    # Only the module tells optimisers from optax's other functions.
    return sorted(
        name
        for name, value in vars(alias).items()
        if callable(value) and name.islower() and name in vars(optax)
    )


def build_optimizer(
    name: str,
    learning_rate: Any = None,
    kws: Mapping[str, Any] | None = None,
    key: PRNGKeyArray | None = None,
    argument: str = "optimizer",
) -> Optimizer:
    """Build an optimiser from its name.

    **Arguments:**

    - `name`: its name at optax's top level.
    - `learning_rate`: a number, a traced one, or a schedule; `None`: its own default.
    - `kws`: its other arguments.
    - `key`: a key for an optimiser that draws noise.
    - `argument`: the user's argument that names it, for messages.

    **Returns:** An optimiser of optax.

    **Raises:** `ValueError` for an unknown name or keyword, with the closest matches.
    """
    factory = _factory(name, argument)
    accepted = inspect.signature(factory).parameters
    rates = [rate for rate in _RATES if rate in accepted]
    for keyword in kws or {}:
        if keyword in rates:
            raise ValueError(
                f"`opt_kws` must not hold {keyword!r}, which has an argument of its "
                "own. Pass `learning_rate`."
            )
        if keyword not in accepted:
            raise ValueError(
                f"`opt_kws`: {name} takes no {keyword!r}. {closest(keyword, accepted)}"
            )
        default, value = accepted[keyword].default, (kws or {})[keyword]
        is_number = isinstance(default, int | float)
        if is_number and not (eqx.is_array_like(value) or callable(value)):
            raise TypeError(
                f"`opt_kws`: {keyword!r} of {name} must be a number, but got "
                f"{describe(value)}. Its default is {default}."
            )
    given: dict[str, Any] = {} if key is None or "key" not in accepted else {"key": key}
    if learning_rate is not None:
        given[rates[0]] = learning_rate
    return factory(**{**given, **(kws or {})})


def display_name(optimizer: str | Optimizer) -> str:
    """Return the name of an optimiser in messages."""
    if isinstance(optimizer, str):
        return optimizer
    return getattr(optimizer.update, "__qualname__", "it").split(".")[0]


def needs_rate(name: str) -> bool:
    """Return whether the optimiser `name` needs a learning rate."""
    return name not in _OWN_RATE


def _factory(name: str, argument: str) -> Callable[..., Any]:
    import optax

    names = optimizer_names()
    if name in names:
        return getattr(optax, name)
    from optax import contrib

    if name == "dpsgd":
        raise ValueError(f"`{argument}`: {_EXAMPLES}")
    if not name.startswith("_") and hasattr(contrib, name):
        raise ValueError(
            f"`{argument}`: {name!r} is not at optax's top level. Pass it as an "
            f"instance: `optax.contrib.{name}(...)`."
        )
    raise ValueError(
        f"`{argument}`: optax has no optimiser {name!r}. {closest(name, names)}"
    )


def check_needs(opt_state: Any) -> None:
    """Refuse an optimiser that needs a gradient for each example.

    It would use the gradient of a batch for that of an example, without an error.

    **Raises:** `ValueError`.
    """
    from optax.contrib import DifferentiallyPrivateAggregateState as Private

    def private(node: Any) -> bool:
        return isinstance(node, Private)

    if any(map(private, jax.tree.leaves(opt_state, is_leaf=private))):
        raise ValueError(f"`optimizer`: {_EXAMPLES}")
