"""The guard of training by gradient: steps with bad numbers change nothing."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._finite import stays_finite
from .._types import Tree
from ._streak import PATIENCE, Streak


# No useful gradient is longer. The sums of squares of optimisers would soon overflow.
_LONGEST_GRADIENT = 1e15
# Arrays of up to so many numbers are cheap to copy.
_SMALL = 4096


class GradientGuard(eqx.Module):
    """Skips updates with bad numbers and counts them; a part of a trainer's state.

    - `skipped`: the number of steps that were skipped so far.
    - `skips`: the number of them in a row.
    - `zeros`: the number of steps in a row with a gradient of exactly 0.
    """

    skipped: Int[Array, ""]
    skips: Streak
    zeros: Streak

    @staticmethod
    def new() -> "GradientGuard":
        """Return the guard before the first step."""
        return GradientGuard(jnp.zeros((), jnp.int32), Streak.none(), Streak.none())

    def apply[T](
        self,
        update: Callable[[], T],
        before: T,
        value: Float[Array, ""],
        norm: Float[Array, ""],
        *,
        allowed: Bool[Array, ""] | bool = True,
        keeps_finite: bool = False,
    ) -> tuple[T, "GradientGuard"]:
        """Update parameters and optimiser, unless that would destroy them.

        A step is skipped if the loss is not finite, if the gradient is not finite or
        longer than 1e15, or if a finite number of `before` would cease to be finite.

        **Arguments:**

        - `update`: returns the parameters and the optimiser's state after the step.
        - `before`: the same before the step.
        - `value`: the loss.
        - `norm`: the length of the gradient, from `gradient_norm`.
        - `allowed`: false for a step that is to be skipped for another reason.
        - `keeps_finite`: whether `update` is known to return finite numbers for such a
            gradient, so that its result need not be checked.

        **Returns:** The result of `update` or `before`, and the guard after the step.
        """
        accepted = jnp.isfinite(value) & (norm <= _LONGEST_GRADIENT) & allowed
        # The update is made inside of the branch: choosing between its result and what
        # was before would cost a pass over each array.
        after = jax.lax.cond(accepted, update, lambda: before)
        if not keeps_finite:
            finite = stays_finite(before, after)
            accepted &= finite
            after = either(finite, after, before)
        return after, GradientGuard(
            skipped=self.skipped + ~accepted,
            skips=self.skips.after(~accepted),
            zeros=self.zeros.after(norm == 0),
        )

    def warning(self) -> str | None:
        """Return a warning if a hundred steps in a row were skipped or had no slope."""
        skips, zeros = self.skips.maximum, self.zeros.maximum
        if skips >= PATIENCE:
            return (
                f"{skips} steps in a row were skipped, because the loss or its "
                "gradient was not finite, or the update would have made a parameter "
                'so. Look at `data["metrics"]["loss"]` and `["grad_norm"]`; a smaller '
                "`learning_rate` or an optimiser behind `optax.clip_by_global_norm` "
                "may help."
            )
        if zeros >= PATIENCE:
            return (
                f"the gradient was exactly 0 in {zeros} steps in a row. Either the "
                "minimum is reached, and fewer steps would do, or the loss does not "
                "depend on the parameters by a path with a derivative: it stops "
                "gradients, rounds, compares or takes an argmax. Evolution needs none: "
                "`EvosaxTrainer`."
            )
        return None


def gradient_norm(gradient: Tree) -> Float[Array, ""]:
    """Return the Euclidean norm, whose derivative at 0 is 0 and not NaN."""
    dtype = jnp.result_type(float)  # half precision would overflow at 256
    leaves = jax.tree.leaves(gradient)
    # Small ones are one vector, because a sum is two kernels to compile.
    small = [leaf.ravel() for leaf in leaves if leaf.size <= _SMALL]
    vectors = [leaf for leaf in leaves if leaf.size > _SMALL]
    if small:
        vectors.append(jnp.concatenate([leaf.astype(dtype) for leaf in small]))
    squares = [jnp.vdot(x, x, preferred_element_type=dtype) for x in vectors]
    square = sum(squares, start=jnp.zeros((), dtype))
    return jnp.where(square == 0, 0.0, jnp.sqrt(jnp.where(square == 0, 1.0, square)))


def either[T](condition: Bool[Array, ""], yes: T, no: T) -> T:
    """Select one of two trees by a branch: `jnp.where` would pass over each array."""
    return jax.lax.cond(condition, lambda: yes, lambda: no)
