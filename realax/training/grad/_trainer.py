"""Gradient training with optax's optimisers."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._arguments import Count, arguments, function, whole
from ..._errors import check_key
from ..._frozen import Frozen
from ..._keys import split
from ..._template import Template
from ..._trees import strong, with_fields
from ..._types import PRNGKeyArray, Tree
from ...tasks import AbstractTask, as_task
from .._base import AbstractTrainer
from .._callbacks import Callbacks, CallbacksLike
from .._checks import check_finite, record as a_record
from .._derivative import value_and_grad
from .._gradient_guard import GradientGuard, either, gradient_norm
from .._optimizers import Optimizer, build_optimizer, check_needs, display_name
from .._options import frozen_options, own_or_of_task
from ..log import default_grad_metrics
from ..observers import Logger
from ._checks import CHECKS, check_initializer, check_loss, epochs_by_either_name
from ._rate import LearningRate, rate_at, rate_of
from ._state import GradMetrics, GradState
from ._update import updated, where_finite


_INITIAL = "what `initializer` returns"


class OptaxTrainer[P](AbstractTrainer[GradState[P], GradMetrics, P]):
    """Trains any pytree or model by gradient, with an optimiser of optax.

    Each step is one evaluation of the loss and its gradient, and one update. A step is
    skipped if its loss is not finite, or if its gradient is not finite or longer than
    1e15: only the step and skip counters change. Also skipped is a step in which an
    optimiser given as an instance would turn a finite number of the parameters, or of
    its own state, into NaN or infinity.

    **Arguments:**

    - `epochs`: the number of steps of `train`; by keyword also `train_steps`, the name
        that all trainers share.
    - `optimizer`: the name of an optimiser at optax's top level, such as `"adamw"` or
        `"lbfgs"`; or an instance: one of `optax.contrib`, or a chain.
    - `initializer`: `(key) -> parameters`, any pytree or model. Only its floating-point
        arrays are trained, the rest is kept.
    - `loss_fn`: `(params, key, data) -> (loss, aux)`, or an `AbstractTask`, whose
        `maximize` tells whether to maximise its value.
    - `learning_rate`: a number, kept as an array leaf to map over or differentiate, or
        a function of `state.step`, such as an optax schedule. `None`: the optimiser's
        own choice if it has one (L-BFGS, Adafactor, polyak_sgd), else 0.001. An
        instance has its own.
    - `opt_kws`: further arguments for an optimiser by name. Arrays among them are
        leaves of the trainer; everything else is static.
    - `record`: a function of each state, whose values are kept as `data["record"]`.
    - `callbacks`: observers and stopping rules, one or several.
    - `logger`: a `Logger`, added to `callbacks`.
    - `progress_bar`: whether to add a `ProgressBar`.
    - `compiler_options`: XLA's options for whole runs, values by name; by default those
        of `loss_fn`.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Source: DeepMind, optax, http://github.com/google-deepmind/optax.
    """

    train_steps: int
    optimizer: str | Optimizer = eqx.field(static=True)
    initializer: Callable[[PRNGKeyArray], P]
    loss_fn: AbstractTask[P]
    learning_rate: Any
    opt_kws: dict[str, Any]
    record: Callable[[GradState[P]], Tree] | None
    callbacks: Callbacks
    compiler_options: Frozen | None = eqx.field(static=True)

    @epochs_by_either_name
    @arguments(
        epochs=whole(),
        initializer=function("(key) -> parameters"),
        record=a_record,
        **CHECKS,
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
        compiler_options: Mapping[str, Any] | None = None,
    ):
        self.loss_fn = as_task(loss_fn, "loss_fn")
        check_loss(self.loss_fn)
        check_initializer(initializer)
        self.train_steps = int(epochs)
        self.optimizer = optimizer
        self.initializer = initializer
        self.learning_rate = rate_of(optimizer, learning_rate)
        self.opt_kws = dict(opt_kws or {})
        self.record = record
        self.callbacks = Callbacks.of(callbacks, logger, progress_bar)
        self.compiler_options = frozen_options(compiler_options, "OptaxTrainer")
        if not isinstance(optimizer, str) and self.opt_kws:
            raise ValueError(
                f"`opt_kws` are for an optimiser given by name, but got {opt_kws} "
                "beside an instance. Pass them to its constructor."
            )
        self._built(jnp.zeros((), jnp.int32), jr.key(0))  # for its errors

    @property
    def epochs(self) -> int:
        """The number of steps of `train`: the same as `train_steps`."""
        return self.train_steps

    @property
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The loss."""
        return "loss", "max" if self.loss_fn.maximize else "min"

    @property
    def xla_options(self) -> dict[str, Any]:
        """The trainer's own `compiler_options`, or those of `loss_fn`."""
        return own_or_of_task(self.compiler_options, self.loss_fn)

    @property
    def evaluation_task(self) -> AbstractTask[P]:
        """The loss; of a `Minibatch`, on batches that the keys draw."""
        return self.loss_fn

    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> GradState[P]:
        """Return the state at the initializer's parameters, before the first step.

        **Arguments:**

        - `key`: the key, split into the initializer's, that of `Minibatch`, and one for
            optimisers that draw noise.
        - `data`: not used.
        """
        check_key(key)
        del data
        init_key, shuffle_key, noise_key = split(key, 3)
        params = self.initializer(init_key)
        template = Template(params, _INITIAL)
        check_finite(_INITIAL, params)
        trained, rest = template.split(params)
        trained = strong(trained)
        zero = jnp.zeros((), jnp.int32)
        opt_state = self._built(zero, noise_key).init(trained)
        check_needs(opt_state)
        return GradState(
            step=zero,
            trained=trained,
            opt_state=strong(opt_state),
            best_loss=self._cost(jnp.asarray(jnp.inf, jnp.result_type(float))),
            best_trained=trained,
            guard=GradientGuard.new(),
            shuffle_key=shuffle_key,
            rest=rest,
            template=template,
        )

    def check_new(self, state: GradState[P]) -> None:
        """Refuse initial parameters that are not finite."""
        check_finite(_INITIAL, state.params)

    def train_step(
        self, state: GradState[P], key: PRNGKeyArray, data: Tree = None
    ) -> tuple[GradState[P], GradMetrics]:
        """Update the parameters once."""
        loss_fn, data = self.loss_fn.draw(data, state.shuffle_key, state.step)

        def cost(trained: Tree) -> tuple[Float[Array, ""], Any]:
            params = state.template.join(trained, state.rest)
            loss, aux = loss_fn.checked_call(params, key, data)
            return self._cost(loss), (loss, aux)

        (value, (loss, aux)), gradient = value_and_grad(cost)(state.trained)
        norm = gradient_norm(gradient)
        by_name = isinstance(self.optimizer, str)

        def update() -> tuple[Tree, Tree]:
            trained, opt_state = updated(
                self._built(state.step, key),
                display_name(self.optimizer),
                gradient,
                state.opt_state,
                state.trained,
                value,
                lambda trained: cost(trained)[0],
            )
            if by_name:
                # Part of the same pass, and needed only for extreme `opt_kws`.
                trained = where_finite(trained, state.trained)
            return trained, opt_state

        (trained, opt_state), guard = state.guard.apply(
            update,
            (state.trained, state.opt_state),
            value,
            norm,
            allowed=self._rate_is_finite(state.step),
            # With such a gradient and rate, optax's optimisers by name stay finite. The
            # result of another one is checked.
            keeps_finite=by_name,
        )
        better = jnp.isfinite(value) & (value < self._cost(state.best_loss))
        after = with_fields(
            state,
            step=state.step + 1,
            trained=trained,
            opt_state=opt_state,
            best_loss=jnp.where(better, loss, state.best_loss),
            best_trained=either(better, state.trained, state.best_trained),
            guard=guard,
        )
        return after, GradMetrics(
            loss=loss, grad_norm=norm, skipped=guard.skipped, eval_data=aux
        )

    def params(self, state: GradState[P]) -> P:
        """Return the parameters after the last step."""
        return state.params

    def best_params(self, state: GradState[P]) -> P:
        """Return the parameters with the best loss so far."""
        return state.best_params

    def log_row(self, state: GradState[P], metrics: GradMetrics) -> dict[str, Array]:
        """Return the row of `default_grad_metrics`."""
        return default_grad_metrics(state, metrics)[0]

    def warning(self, state: GradState[P]) -> str | None:
        """Return a warning if a hundred steps in a row did nothing."""
        return state.guard.warning()

    def _cost(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
        return -loss if self.loss_fn.maximize else loss

    def _built(self, step: Any, key: PRNGKeyArray) -> Optimizer:
        if not isinstance(self.optimizer, str):
            return self.optimizer
        rate = rate_at(self.learning_rate, step)
        return build_optimizer(self.optimizer, rate, self.opt_kws, key)

    def _rate_is_finite(self, step: Any) -> Any:
        if self.learning_rate is None:
            return True
        return jnp.isfinite(rate_at(self.learning_rate, step))
