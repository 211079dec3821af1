"""State and metrics of gradient training."""

from typing import TypedDict

import equinox as eqx
from jaxtyping import Array, Float, Int

from ..._template import Template
from ..._types import PRNGKeyArray, Step, Tree
from .._gradient_guard import GradientGuard
from .._state import AbstractState


class GradMetrics(TypedDict):
    """Metrics of each step of gradient training, in the loss's own numbers.

    - `loss`: the loss before the step's update, or the value of a task that is
        maximised, with its own sign.
    - `grad_norm`: the Euclidean length of the gradient.
    - `skipped`: the number of steps skipped so far, including this one.
    - `eval_data`: the loss's aux; `None` if it has none.
    """

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    skipped: Int[Array, ""]
    eval_data: Tree


class GradState[P](AbstractState):
    """State of gradient training.

    - `step`: the number of steps so far.
    - `trained`: the arrays that are trained, in the user's structure.
    - `opt_state`: the optimiser's own state.
    - `best_loss`: the best so far, in the loss's own numbers and sign.
    - `best_trained`: the arrays that scored it.
    - `guard`: counts of the steps that were skipped, and of those without a gradient.
    - `shuffle_key`: the key for the order in which `Minibatch` goes through the data.
    - `rest`: the arrays that are not trained.
    - `template`: rebuilds the user's type from arrays.
    """

    step: Step
    trained: Tree
    opt_state: Tree
    best_loss: Float[Array, ""]
    best_trained: Tree
    guard: GradientGuard
    shuffle_key: PRNGKeyArray
    rest: tuple[Array, ...]
    template: Template[P] = eqx.field(static=True)

    @property
    def params(self) -> P:
        """The parameters after the last step, of the type that was given."""
        return self.template.join(self.trained, self.rest)

    @property
    def best_params(self) -> P:
        """The parameters with `best_loss`."""
        return self.template.join(self.best_trained, self.rest)

    @property
    def skipped(self) -> Int[Array, ""]:
        """The number of steps that were skipped so far."""
        return self.guard.skipped
