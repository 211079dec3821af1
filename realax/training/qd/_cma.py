"""Several evolution strategies by covariance matrix adaptation, side by side."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from ..._anywhere import anywhere
from ..._keys import quick
from ..._trees import with_fields
from ..._types import PRNGKeyArray


# A deviation that has grown by this factor will not come back.
_WILD = 1e6


class Distributions(eqx.Module):
    """The normal distributions from which several CMA-ES draw.

    - `mean`, `sigma`, `covariance`: each has the covariance matrix `sigma**2` times
        `covariance`.
    - `factor`: the Cholesky factor of a recent `covariance`, by which is drawn.
    - `path`, `step_path`: the evolution paths of the covariance and of the step size.
    - `age`: the number of updates since the start.
    """

    mean: Float[Array, "emitters dims"]
    sigma: Float[Array, " emitters"]
    covariance: Float[Array, "emitters dims dims"]
    factor: Float[Array, "emitters dims dims"]
    path: Float[Array, "emitters dims"]
    step_path: Float[Array, "emitters dims"]
    age: Int[Array, " emitters"]

    @staticmethod
    def around(
        mean: Float[Array, "emitters dims"], sigma: Float[Array, ""]
    ) -> "Distributions":
        """Return distributions without correlations.

        **Arguments:**

        - `mean`: the means.
        - `sigma`: the deviation of each number.
        """
        emitters, dims = mean.shape
        identity = jnp.broadcast_to(
            jnp.eye(dims, dtype=mean.dtype), (emitters, dims, dims)
        )
        zeros = jnp.zeros_like(mean)
        return Distributions(
            mean=mean,
            sigma=jnp.broadcast_to(sigma, (emitters,)),
            covariance=identity,
            factor=identity,
            path=zeros,
            step_path=zeros,
            age=jnp.zeros(emitters, jnp.int32),
        )

    def draw(
        self, key: PRNGKeyArray, number: int
    ) -> Float[Array, "emitters number dims"]:
        """Return samples of each distribution."""
        emitters, dims = self.mean.shape
        noise = jr.normal(quick(key), (emitters, number, dims), self.mean.dtype)
        steps = jnp.einsum("eni,eji->enj", noise, self.factor)
        return self.mean[:, None] + self.sigma[:, None, None] * steps

    def updated(
        self,
        samples: Float[Array, "emitters number dims"],
        rank: Int[Array, "emitters number"],
        parents: Int[Array, " emitters"],
    ) -> "Distributions":
        """Return the distributions after the ranking of samples; `factor` is kept.

        **Arguments:**

        - `samples`: from `draw`.
        - `rank`: the rank of each sample, from 0 for the best.
        - `parents`: how many of the best are learned from, at least 1.

        Source: N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
        The step size's path is in the coordinates of the Cholesky factor.
        """
        dims = self.mean.shape[-1]
        weights = _weights(rank, parents[:, None])
        effective = 1 / jnp.sum(weights**2, axis=-1)
        rates = _rates(effective, dims)
        steps = (samples - self.mean[:, None]) / self.sigma[:, None, None]
        step = jnp.einsum("en,enj->ej", weights, steps)

        whitened = jax.scipy.linalg.solve_triangular(
            self.factor, step[..., None], lower=True
        )[..., 0]
        keep = jnp.sqrt(rates.step_path * (2 - rates.step_path) * effective)
        step_path = (1 - rates.step_path)[:, None] * self.step_path
        step_path += keep[:, None] * whitened
        length = jnp.linalg.norm(step_path, axis=-1) / _expected_length(dims)
        growth = rates.step_path / rates.damping * (length - 1)
        bias = 1 - (1 - rates.step_path) ** (2 * (self.age + 1))
        short = length / jnp.sqrt(bias) < 1.4 + 2 / (dims + 1)

        keep = short * jnp.sqrt(rates.path * (2 - rates.path) * effective)
        path = (1 - rates.path)[:, None] * self.path + keep[:, None] * step
        lost = jnp.where(short, 0.0, rates.one * rates.path * (2 - rates.path))
        old = 1 - rates.one - rates.many + lost
        covariance = old[:, None, None] * self.covariance
        scaled = rates.one[:, None] * path
        covariance += scaled[:, :, None] * path[:, None]
        scaled = (rates.many[:, None] * weights)[..., None] * steps
        covariance += jnp.einsum("eni,enj->eij", scaled, steps)
        return with_fields(
            self,
            mean=self.mean + self.sigma[:, None] * step,
            sigma=self.sigma * jnp.exp(jnp.minimum(growth, 1.0)),
            covariance=covariance,
            path=path,
            step_path=step_path,
            age=self.age + 1,
        )

    def decomposed(self, due: Bool[Array, ""]) -> "Distributions":
        """Return the distributions with the factor of `covariance`, if it is due."""
        factor = jax.lax.cond(
            anywhere(due),
            lambda: jnp.linalg.cholesky(self.covariance),
            lambda: self.factor,
        )
        return with_fields(self, factor=factor)

    def broken(self, sigma: Float[Array, ""]) -> Bool[Array, " emitters"]:
        """Return which of them nothing more can be learned with.

        **Arguments:**

        - `sigma`: the deviation with which they began.
        """
        lost = ~jnp.all(jnp.isfinite(self.factor), axis=(-2, -1))
        scale = jnp.diagonal(self.factor, axis1=-2, axis2=-1)
        largest = self.sigma * jnp.max(scale, axis=-1)
        smallest = self.sigma * jnp.min(scale, axis=-1)
        finest = jnp.finfo(self.mean.dtype).eps * jnp.max(jnp.abs(self.mean), axis=-1)
        return lost | ~(smallest > finest) | ~(largest < _WILD * sigma)

    def restarted(
        self,
        over: Bool[Array, " emitters"],
        mean: Float[Array, "emitters dims"],
        sigma: Float[Array, ""],
    ) -> "Distributions":
        """Return the distributions, of which some begin anew.

        **Arguments:**

        - `over`: which ones.
        - `mean`, `sigma`: as for `around`.
        """
        fresh = Distributions.around(mean, sigma)

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(over.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        return jax.tree.map(choose, fresh, self)


class _Rates(eqx.Module):
    """Learning rates: of both paths, and of the covariance by one path and by many
    samples; and the damping of the step size."""

    path: Float[Array, " emitters"]
    step_path: Float[Array, " emitters"]
    one: Float[Array, " emitters"]
    many: Float[Array, " emitters"]
    damping: Float[Array, " emitters"]


def _rates(effective: Any, dims: int) -> _Rates:
    one = 2 / ((dims + 1.3) ** 2 + effective)
    many = 2 * (effective - 2 + 1 / effective) / ((dims + 2) ** 2 + effective)
    step_path = (effective + 2) / (dims + effective + 5)
    excess = jnp.sqrt(jnp.maximum((effective - 1) / (dims + 1), 0)) - 1
    return _Rates(
        path=(4 + effective / dims) / (dims + 4 + 2 * effective / dims),
        step_path=step_path,
        one=one,
        many=jnp.minimum(1 - one, many),
        damping=1 + 2 * jnp.maximum(excess, 0) + step_path,
    )


def _weights(rank: Any, parents: Any) -> Float[Array, "emitters number"]:
    """Return weights that fall with the logarithm of the rank, and sum up to 1."""
    weights = jnp.log(parents + 0.5) - jnp.log(rank + 1.0)
    weights = jnp.where(rank < parents, weights, 0.0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def _expected_length(dims: int) -> float:
    """Return the expected length of a vector of standard normal numbers, nearly."""
    return math.sqrt(dims) * (1 - 1 / (4 * dims) + 1 / (21 * dims**2))


def updates_between_factors(number: int, dims: int) -> int:
    """Return after how many updates a covariance has changed enough to matter.

    **Arguments:**

    - `number`: the number of samples of each distribution in an update.
    - `dims`: the number of numbers of each.
    """
    parents = max(number // 2, 1)
    weights = [math.log(parents + 0.5) - math.log(i + 1) for i in range(parents)]
    effective = sum(weights) ** 2 / sum(w**2 for w in weights)
    one = 2 / ((dims + 1.3) ** 2 + effective)
    many = 2 * (effective - 2 + 1 / effective) / ((dims + 2) ** 2 + effective)
    return max(1, round(0.5 / (dims * (one + min(1 - one, many)))))
