"""Networks for reinforcement learning: the defaults, and those that users bring."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from ..._errors import describe
from ..._keys import fold_in, quick, split
from ..._types import PRNGKeyArray
from ...policies import (
    AbstractHead,
    AbstractStochasticPolicy,
    ActorCritic,
    NormalizedPolicy,
    StochasticPolicy,
)
from ...policies._stochastic import applied, first_state
from ...tasks import EnvTask


# `(key) -> module`: a module itself can be called too, with an observation.
type Network = eqx.Module | Callable[[PRNGKeyArray], Any]


def orthogonal_mlp(
    in_size: int, out_size: int | str, gain: float, key: PRNGKeyArray
) -> eqx.nn.MLP:
    """Return a tanh network of two hidden layers of 64, initialised orthogonally.

    Weights are orthogonal, those of hidden layers times the square root of 2, and
    biases are 0, as in M. Andrychowicz et al., What Matters In On-Policy Reinforcement
    Learning?, arXiv:2006.05990.

    **Arguments:**

    - `in_size`: the size of the input.
    - `out_size`: the size of the output; `"scalar"` for shape `()`.
    - `gain`: the factor of the last layer's weights.
    - `key`: initialises the weights.
    """
    # Its shapes alone: equinox's initial weights, unused here, take time to trace.
    made: Any = eqx.filter_eval_shape(
        lambda: eqx.nn.MLP(in_size, out_size, 64, 2, activation=jnp.tanh, key=key)  # pyright: ignore[reportArgumentType]
    )
    parts = lambda mlp: [
        part for layer in mlp.layers for part in (layer.weight, layer.bias)
    ]
    weights, biases = parts(made)[::2], parts(made)[1::2]
    new = list[Any]()
    for i, matrix in enumerate(_orthogonal([w.shape for w in weights], key)):
        factor = gain if i == len(weights) - 1 else math.sqrt(2)
        new += [factor * matrix, jnp.zeros(biases[i].shape)]
    return eqx.tree_at(parts, made, new)


def _orthogonal(shapes: list[tuple[int, int]], key: PRNGKeyArray) -> list[Array]:
    """Return random matrices of orthonormal rows, or columns if these are fewer.

    Those of one longer side are made at once, and the wider ones are cut off: each
    decomposition in a program takes half a second to compile.
    """
    matrices = dict[int, Array]()
    for size in {max(shape) for shape in shapes}:
        which = [i for i, shape in enumerate(shapes) if max(shape) == size]
        width = max(min(shapes[i]) for i in which)
        normal = jr.normal(quick(fold_in(key, size)), (len(which), size, width))
        tall, upper = jnp.linalg.qr(normal)
        # By the signs, all orthogonal matrices are equally likely.
        signs = jnp.sign(jnp.diagonal(upper, axis1=1, axis2=2))
        matrices |= dict(zip(which, tall * signs[:, None], strict=True))
    return [
        matrices[i][:, :columns] if rows >= columns else matrices[i][:, :rows].T
        for i, (rows, columns) in enumerate(shapes)
    ]


def build(
    task: EnvTask[Any],
    actor: Network | None,
    critic: Network | None,
    head: AbstractHead,
    key: PRNGKeyArray,
) -> ActorCritic:
    """Return the actor and critic with which training begins.

    **Arguments:**

    - `task`: the task that they will play.
    - `actor`, `critic`: modules, functions `(key) -> module`, or `None` for default
        networks.
    - `head`: makes the distribution of a network's scores.
    - `key`: splits into the actor's and the critic's.

    **Raises:** `TypeError` or `ValueError` for networks that do not fit the task.
    """
    actor_key, critic_key = split(key)
    size = task.space.obs_dims
    if actor is None:
        check_flat(task, "actor")
        actor = orthogonal_mlp(size, head.size, 0.01, actor_key)
    made = made_network("actor", actor, actor_key, NormalizedPolicy)
    is_policy = isinstance(made, AbstractStochasticPolicy)
    policy: Any = made if is_policy else StochasticPolicy(made, head)
    if _has_two_heads(task, policy):
        if critic is not None:
            raise ValueError(
                "`critic` must be left out, because `actor` returns `(scores, value)` "
                f"and so has a critic, but got {describe(critic)}."
            )
        return ActorCritic(policy)
    if critic is None:
        check_flat(task, "critic")
        critic = orthogonal_mlp(size, "scalar", 1.0, critic_key)
    kinds = NormalizedPolicy, AbstractStochasticPolicy
    critic = made_network("critic", critic, critic_key, *kinds)
    output_shape(task, "critic", critic)
    return ActorCritic(policy, critic)


def fits_head(model: ActorCritic, head: AbstractHead) -> bool:
    """Return whether a model's actions are known to be those of a task's head."""
    policy = model.policy
    if not isinstance(policy, StochasticPolicy):
        return False
    return jax.tree.structure(policy.head) == jax.tree.structure(head)


def made_network(argument: str, network: Any, key: PRNGKeyArray, *unfit: type) -> Any:
    """Return a network, or what a function makes of the key.

    **Raises:** `TypeError` for another result than a module, and for modules of a kind
    whose arrays are not all to be trained as a network's.
    """
    made = network if isinstance(network, eqx.Module) else network(key)
    if not isinstance(made, eqx.Module):
        raise TypeError(
            f"`{argument}` must be an `equinox.Module` or a function (key) -> module, "
            f"but the function returned {describe(made)}."
        )
    if isinstance(made, unfit):
        raise TypeError(
            f"`{argument}` must be a network here, but got a {type(made).__name__}. "
            "Pass a trained policy itself as `actor`, not a function that returns it; "
            "a critic is a network of its own."
        )
    return made


def check_flat(task: EnvTask[Any], argument: str) -> None:
    if not task.flatten_obs:
        raise ValueError(
            f"`{argument}` must be given for a task with `flatten_obs=False`, whose "
            f"observations are {jax.tree.map(lambda x: x.shape, task.obs_shape)}: a "
            "module that takes such an observation, or `lambda key: Module(key=key)`. "
            "The default network takes flat vectors."
        )


def output_shape(task: EnvTask[Any], argument: str, network: Any) -> Any:
    """Return the shape of a network's output for an observation of the task.

    **Raises:** `ValueError` if it does not take one.
    """

    def output(obs: Any) -> Any:
        return applied(network, obs, first_state(network, jr.key(0)))[0]

    try:
        return eqx.filter_eval_shape(output, task.obs_shape)
    except (TypeError, ValueError) as error:
        shapes = jax.tree.map(lambda leaf: leaf.shape, task.obs_shape)
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"`{argument}` must take an observation of the task, of shape {shapes}, "
            f"but {type(network).__name__} raised {type(error).__name__}: {reason} "
            "The size of a flat observation is `task.space.obs_dims`."
        ) from error


def _has_two_heads(task: EnvTask[Any], policy: AbstractStochasticPolicy[Any]) -> bool:
    """Return whether a policy's network has two heads.

    **Raises:** `TypeError` for an actor that gives no distribution.
    """
    if not isinstance(policy, StochasticPolicy):
        return False
    size = policy.head.size
    shape = output_shape(task, "actor", policy.network)
    two_heads = isinstance(shape, tuple) and len(shape) == 2
    scores: Any = shape[0] if two_heads else shape
    fits = isinstance(scores, jax.ShapeDtypeStruct) and scores.shape == (size,)
    if not (fits and jnp.issubdtype(scores.dtype, jnp.floating)):
        raise TypeError(
            "`actor` must have a distribution of actions: return "
            f"{size} scores, a float vector of shape ({size},), which "
            "are the logits of discrete choices and the means of continuous "
            "actions; or be a subclass of `rx.AbstractStochasticPolicy`. But it "
            f"returns {describe(scores)}."
        )
    return two_heads
