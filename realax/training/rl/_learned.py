"""A network in training, with its optimiser and its guard."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._template import Template
from ..._trees import strong, with_fields
from ..._types import Tree
from .._derivative import value_and_grad
from .._gradient_guard import GradientGuard
from ._gradient_step import adam, gradient_step


class Learned[N](eqx.Module):
    """A network in training; a part of a trainer's state.

    - `trained`: its arrays that are trained.
    - `opt_state`: Adam's state.
    - `guard`: counts of the steps that were skipped.
    - `rest`: its arrays that are not trained.
    - `template`: rebuilds the network from arrays.
    """

    trained: Tree
    opt_state: Tree
    guard: GradientGuard
    rest: tuple[Array, ...]
    template: Template[N] = eqx.field(static=True)

    @classmethod
    def new(cls, network: N, phrase: str) -> "Learned[N]":
        """Return a network before its first step.

        **Arguments:**

        - `network`: the network.
        - `phrase`: its name in messages.

        **Raises:** `ValueError` or `TypeError` for a network without float arrays.
        """
        template = Template(network, phrase)
        trained, rest = template.split(network)
        trained = strong(trained)
        opt_state = strong(adam(0.0).init(trained))
        return cls(trained, opt_state, GradientGuard.new(), rest, template)

    @property
    def network(self) -> N:
        """The network after the last step."""
        return self.at(self.trained)

    def at(self, trained: Tree) -> N:
        """Return the network with other trained arrays, such as those of a target."""
        return self.template.join(trained, self.rest)

    def step(
        self,
        loss: Callable[[N], tuple[Float[Array, ""], Any]],
        rate: Float[Array, ""],
        longest: Float[Array, ""] | None = None,
    ) -> tuple["Learned[N]", Any, Float[Array, ""]]:
        """Make a guarded step of Adam.

        **Arguments:**

        - `loss`: returns the loss of the network, and a report.
        - `rate`: the learning rate.
        - `longest`: the length to which longer gradients are shortened.

        **Returns:** The network after the step, the report, and the length of the
        gradient before it was shortened.
        """
        gradient = value_and_grad(lambda trained: loss(self.at(trained)))
        allowed = jnp.isfinite(rate)
        if longest is not None:
            allowed &= ~jnp.isnan(longest)
        before = self.trained, self.opt_state
        (trained, opt_state), guard, (report, norm) = gradient_step(
            gradient, adam(rate), before, self.guard, longest, allowed
        )
        after = with_fields(self, trained=trained, opt_state=opt_state, guard=guard)
        return after, report, norm


def toward(target: Tree, online: Tree, tau: Float[Array, ""]) -> Tree:
    """Return a target's arrays, moved toward the online ones by a share of the way.

    **Arguments:**

    - `target`, `online`: trained arrays of one structure.
    - `tau`: the share, from 0 to 1.
    """
    return jax.tree.map(
        lambda old, new: ((1 - tau) * old + tau * new).astype(old.dtype),
        target,
        online,
    )
