"""Gradient training with optax's optimisers."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ..._arguments import Count, arguments, flag, function, keywords, number, whole
from ..._callables import name_of
from ..._errors import check_key, describe
from ..._finite import stays_finite
from ..._template import Template
from ..._trees import strong
from ..._types import PRNGKeyArray, Tree
from ...tasks._base import (
    begun,
    check_task,
    checked_call,
    is_maximized,
    obstacle,
    options_of,
)
from ...tasks._minibatch import drawn
from .._base import AbstractTrainer
from .._callbacks import Callbacks, CallbacksLike
from .._checks import check_rate, logger as a_logger, observers, record as a_record
from .._optimizer import (
    Optimizer,
    build_optimizer,
    check_needs,
    needs_rate,
    optimizer as an_optimizer,
)
from ..observers import Logger, ProgressBar
from ._state import GradMetrics, GradState


# After so many skipped steps in a row the user is told.
_PATIENCE = 100
# No gradient is so long. The sums of squares that optimisers keep would soon overflow.
_ABSURD = 1e15

type LearningRate = ArrayLike | Callable[[Any], Any]


def checked_rate(phrase: str, value: Any) -> Any:
    """A number that is not negative, a function of the step, or `None`."""
    return value if value is None or callable(value) else number(0.0)(phrase, value)


def _by_either_name[**A, R](function: Callable[A, R]) -> Callable[A, R]:
    """`__init__` that takes `train_steps`, the name of the field, for `epochs`.

    `dataclasses.replace` calls it by the names of all fields and of what changes: so
    `epochs` wins.
    """

    @functools.wraps(function)
    def called(*args: A.args, **kwargs: A.kwargs) -> R:
        named: dict[str, Any] = kwargs
        if "train_steps" in named:
            steps = named.pop("train_steps")
            if len(args) < 2:  # besides `self`
                named.setdefault("epochs", steps)
        return function(*args, **named)  # pyright: ignore[reportCallIssue]

    return called


class OptaxTrainer[P](AbstractTrainer[GradState[P], GradMetrics, P]):
    """Trains any pytree or model by gradient, with an optimiser of optax.

    Each step is one evaluation of the loss and its gradient, and one update. A step
    whose loss is not finite, or whose gradient is not or is longer than 1e15, is
    skipped: all stays as it was, but the count. So is one with which an optimiser given
    as an instance would turn a number of the parameters or of its state not finite.

    **Arguments:**

    - `epochs`: how many steps `train` runs; by keyword also `train_steps`, the name
        that all trainers share.
    - `optimizer`: the name of an optimiser at optax's top level, such as `"adamw"` or
        `"lbfgs"`; or an instance: one of `optax.contrib`, or a chain.
    - `initializer`: `(key) -> parameters`, any pytree or model. Only its floating-point
        arrays are trained, the rest is kept.
    - `loss_fn`: `(params, key, data) -> (loss, aux)`, or an `AbstractTask`, whose
        `maximize` says whether its value is to fall or to rise.
    - `learning_rate`: a number, kept as an array leaf to map over or differentiate, or
        a function of `state.step`, such as an optax schedule. `None`: the optimiser's
        own choice where it has one (L-BFGS, Adafactor, polyak_sgd), else
        0.001. An instance has its own.
    - `opt_kws`: further arguments for an optimiser by name. Arrays among them are
        leaves of the trainer, everything else decides what is compiled.
    - `record`: what to keep of each state beside the metrics, as `data["record"]`.
    - `callbacks`: one observer, or several.
    - `logger`: one more of them.
    - `progress_bar`: whether to show one.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Source: DeepMind, optax, http://github.com/google-deepmind/optax.
    """

    train_steps: int
    optimizer: str | Optimizer = eqx.field(static=True)
    initializer: Callable[[PRNGKeyArray], P]
    loss_fn: Callable[..., Any]
    learning_rate: Any
    opt_kws: dict[str, Any]
    record: Callable[[GradState[P]], Tree] | None
    callbacks: Callbacks

    @_by_either_name
    @arguments(
        epochs=whole(),
        optimizer=an_optimizer,
        initializer=function("(key) -> parameters"),
        loss_fn=function("(params, key, data) -> (loss, aux)"),
        learning_rate=checked_rate,
        opt_kws=keywords,
        record=a_record,
        callbacks=observers,
        logger=a_logger,
        progress_bar=flag,
    )
    def __init__(
        self,
        epochs: Count,
        optimizer: str | Optimizer,
        initializer: Callable[[PRNGKeyArray], P],
        loss_fn: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
        learning_rate: LearningRate | None = None,
        *,
        opt_kws: Mapping[str, Any] | None = None,
        record: Callable[[GradState[P]], Tree] | None = None,
        callbacks: CallbacksLike = (),
        logger: Logger | None = None,
        progress_bar: bool = False,
    ):
        check_task(loss_fn, "loss_fn")
        _check_initializer(initializer)
        if begun(loss_fn) is not None:
            raise ValueError(
                "`loss_fn` has `normalize_obs`, which gathers statistics over the "
                "generations of evolution only. Normalise inside the policy instead."
            )
        if (reason := obstacle(loss_fn)) is not None:
            raise ValueError(
                f"`loss_fn`, {name_of(loss_fn)}, can not be trained by gradient: "
                f"{reason} Train it by evolution, `EvosaxTrainer` or `evolve`, or by "
                "reinforcement learning."
            )
        self.train_steps = int(epochs)
        self.optimizer = optimizer
        self.initializer = initializer
        self.loss_fn = loss_fn
        self.learning_rate = _rate(optimizer, learning_rate)
        self.opt_kws = dict(opt_kws or {})
        self.record = record
        self.callbacks = Callbacks(
            callbacks, logger, ProgressBar() if progress_bar else None
        )
        if not isinstance(optimizer, str):
            if self.opt_kws:
                raise ValueError(
                    f"`opt_kws` are for an optimiser given by name, but got {opt_kws} "
                    "beside an instance. Pass them where that is made."
                )
        else:
            self._build(jnp.zeros((), jnp.int32), jr.key(0))  # for its errors

    @property
    def epochs(self) -> int:
        """How many steps `train` runs: the same as `train_steps`."""
        return self.train_steps

    @property
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The loss."""
        return "loss", "max" if self._maximize else "min"

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Those of `loss_fn`."""
        return options_of(self.loss_fn)

    @property
    def _maximize(self) -> bool:
        return is_maximized(self.loss_fn)

    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> GradState[P]:
        """The state at the initializer's parameters, before the first step."""
        check_key(key)
        del data
        init_key, shuffle_key, noise_key = jr.split(key, 3)
        params = self.initializer(init_key)
        template = Template(params, "what `initializer` returns")
        trained, rest = template.split(params)
        trained = strong(trained)
        zero = jnp.zeros((), jnp.int32)
        opt_state = self._build(zero, noise_key).init(trained)
        check_needs(opt_state)
        return GradState(
            step=zero,
            trained=trained,
            opt_state=strong(opt_state),
            best_loss=self._cost(jnp.asarray(jnp.inf, jnp.result_type(float))),
            best_trained=trained,
            skipped=zero,
            in_a_row=zero,
            longest_in_a_row=zero,
            flat=zero,
            longest_flat=zero,
            shuffle_key=shuffle_key,
            rest=rest,
            template=template,
        )

    def train_step(
        self, state: GradState[P], key: PRNGKeyArray, data: Tree = None
    ) -> tuple[GradState[P], GradMetrics]:
        """One update."""
        loss_fn, data = drawn(self.loss_fn, data, state.shuffle_key, state.step)

        def cost(trained: Tree) -> tuple[Float[Array, ""], Any]:
            params = state.template.join(trained, state.rest)
            loss, aux = checked_call(loss_fn, params, key, data)
            return self._cost(loss), (loss, aux)

        (value, (loss, aux)), gradient = jax.value_and_grad(cost, has_aux=True)(
            state.trained
        )
        usable = jnp.isfinite(value)
        grad_norm = _length(gradient)
        accepted = usable & (grad_norm <= _ABSURD)
        if isinstance(self.optimizer, str) and self.learning_rate is not None:
            accepted &= jnp.isfinite(self._rate(state.step))
        before = state.trained, state.opt_state
        # The update is made inside of the branch: choosing between its result and what
        # was before would cost a pass over each array.
        after = jax.lax.cond(
            accepted,
            lambda: self._update(state, key, gradient, value, cost),
            lambda: before,
        )
        if not isinstance(self.optimizer, str):
            # With such a gradient and rate, optax's optimisers by name stay finite. An
            # unknown one is looked at.
            sound = stays_finite(before, after)
            accepted &= sound
            after = _either(sound, after, before)
        trained, opt_state = after
        better = usable & (value < self._cost(state.best_loss))
        in_a_row = jnp.where(accepted, 0, state.in_a_row + 1)
        skipped = state.skipped + ~accepted
        flat = jnp.where(grad_norm == 0, state.flat + 1, 0)
        new = GradState(
            step=state.step + 1,
            trained=trained,
            opt_state=opt_state,
            best_loss=jnp.where(better, loss, state.best_loss),
            best_trained=_either(better, state.trained, state.best_trained),
            skipped=skipped,
            in_a_row=in_a_row,
            longest_in_a_row=jnp.maximum(in_a_row, state.longest_in_a_row),
            flat=flat,
            longest_flat=jnp.maximum(flat, state.longest_flat),
            shuffle_key=state.shuffle_key,
            rest=state.rest,
            template=state.template,
        )
        return new, GradMetrics(
            loss=loss,
            grad_norm=grad_norm,
            skipped=skipped,
            eval_data=aux,
        )

    def params(self, state: GradState[P]) -> P:
        """The parameters after the last step; `state.best_params` are the best ones."""
        return state.params

    def best_params(self, state: GradState[P]) -> P:
        """Return the parameters that scored the best loss so far."""
        return state.best_params

    def warning(self, state: GradState[P]) -> str | None:
        """That a hundred steps in a row were skipped, or had a gradient of 0."""
        longest = int(np.asarray(state.longest_in_a_row).max())
        flat = int(np.asarray(state.longest_flat).max())
        if longest >= _PATIENCE:
            return (
                f"{longest} steps in a row were skipped, because the loss or its "
                "gradient was not finite, or the update would have made a parameter "
                'so. Look at `data["metrics"]["loss"]` and `["grad_norm"]`; a smaller '
                "`learning_rate` or an optimiser behind `optax.clip_by_global_norm` "
                "may help."
            )
        if flat >= _PATIENCE:
            return (
                f"the gradient was exactly 0 in {flat} steps in a row. Either the "
                "bottom is reached, and fewer steps would do, or the loss does not "
                "depend on the parameters by a path with a derivative: it stops "
                "gradients, rounds, compares or takes an argmax. Evolution needs none: "
                "`EvosaxTrainer`."
            )
        return None

    def _cost(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
        return -loss if self._maximize else loss

    def _build(self, step: Any, key: PRNGKeyArray) -> Any:
        if not isinstance(self.optimizer, str):
            return self.optimizer
        return build_optimizer(self.optimizer, self._rate(step), self.opt_kws, key)

    def _rate(self, step: Any) -> Any:
        rate: Any = self.learning_rate
        if callable(rate):
            rate = check_rate("`learning_rate`", rate(step))
        return rate

    def _update(
        self,
        state: GradState[P],
        key: PRNGKeyArray,
        gradient: Tree,
        value: Array,
        cost: Callable[..., Any],
    ) -> tuple[Tree, Tree]:
        """The parameters and the optimiser's state after the step."""
        import optax

        optimizer = optax.with_extra_args_support(self._build(state.step, key))
        try:
            updates, opt_state = optimizer.update(
                gradient,
                state.opt_state,
                state.trained,
                value=value,
                grad=gradient,
                value_fn=lambda trained: cost(trained)[0],
            )
        except TypeError as error:
            raise TypeError(
                f"`optimizer`: {_name(self.optimizer)} could not make its update from "
                f"the loss's value, gradient and function, all there is: {error}"
            ) from error
        trained = optax.apply_updates(state.trained, updates)
        if isinstance(self.optimizer, str):
            # Part of the same pass, and never needed unless `opt_kws` are absurd.
            trained = jax.tree.map(
                lambda new, old: jnp.where(jnp.isfinite(new), new, old),
                trained,
                state.trained,
            )
        # Some optimisers mix dtypes; the state keeps its own from step to step.
        return trained, jax.tree.map(_of_type, opt_state, state.opt_state)


def _name(optimizer: str | Optimizer) -> str:
    if isinstance(optimizer, str):
        return optimizer
    return getattr(optimizer.update, "__qualname__", "it").split(".")[0]


def _check_initializer(initializer: Callable[..., Any]) -> None:
    try:
        inspect.signature(initializer).bind(None)
    except TypeError as error:
        raise TypeError(
            "`initializer` must have the signature (key) -> parameters, but "
            f"{name_of(initializer)} can not be called so ({error}). For parameters "
            "that are there already, call `optimize`."
        ) from error
    except ValueError:  # some builtins have no signature to look at
        return


def _either(condition: Array, yes: Tree, no: Tree) -> Tree:
    """A branch: choosing number by number would cost a pass for each array."""
    return jax.lax.cond(condition, lambda: yes, lambda: no)


def _of_type(new: Any, old: Array) -> Array:
    new = jnp.asarray(new)
    return new if new.dtype == old.dtype else new.astype(old.dtype)


def _length(gradient: Tree) -> Float[Array, ""]:
    """The Euclidean norm, with a derivative of 0 and not NaN at 0."""
    dtype = jnp.result_type(float)  # half precision would overflow at 256
    squares = [
        jnp.vdot(leaf, leaf, preferred_element_type=dtype)
        for leaf in jax.tree.leaves(gradient)
    ]
    square = sum(squares, start=jnp.zeros((), dtype))
    return jnp.where(square == 0, 0.0, jnp.sqrt(jnp.where(square == 0, 1.0, square)))


def _rate(optimizer: str | Optimizer, rate: LearningRate | None) -> Any:
    if not isinstance(optimizer, str):
        if rate is not None:
            raise ValueError(
                "`learning_rate` is for an optimiser given by name, but "
                f"got {describe(rate)} beside an instance, which has its own. Leave it "
                "out, or name the optimiser."
            )
        return None
    if rate is None:
        rate = 1e-3 if needs_rate(optimizer) else None
    if rate is None or callable(rate):
        return rate
    return jnp.asarray(rate, jnp.result_type(float))
