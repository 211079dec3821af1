"""Networks that estimate returns, the defaults and those that users bring."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._errors import describe
from ..._keys import split
from ..._types import PRNGKeyArray, Scalar
from ...policies import BasePolicy, GreedyPolicy, NormalizedPolicy
from ...policies._stochastic import applied, first_state
from ...tasks import EnvTask
from .._derivative import nth
from ._layer_norm import LayerNorm
from ._networks import Network, check_flat, made_network, output_shape
from ._transitions import Replayed


class ActionValue(eqx.Module):
    """Estimates the return of an action from the observation and the action.

    **Arguments:**

    - `network`: a module from both, one after the other as one vector, to a number:
        `eqx.nn.MLP(obs_dims + action_dims, "scalar", 256, 2, key=key)`.
    """

    network: Any

    def __call__(self, obs: Float[Array, " obs"], action: Float[Array, " act"]) -> Any:
        """Return the estimate."""
        return self.network(jnp.concatenate([obs, action]))


class TwoHeads(eqx.Module):
    """A network with two heads, which returns `(scores, value)`.

    **Arguments:**

    - `body`: a module from the observation to features.
    - `scores`, `value`: modules from the features to the scores, and to a number.
    """

    body: Any
    scores: Any
    value: Any

    def __call__(self, obs: Any) -> tuple[Array, Array]:
        """Return the scores and the value."""
        features = self.body(obs)
        return self.scores(features), self.value(features)


def relu_mlp(
    in_size: int, out_size: int | str, width: int, key: PRNGKeyArray
) -> eqx.nn.MLP:
    """Return a network of two hidden layers with rectifiers."""
    return eqx.nn.MLP(in_size, out_size, width, 2, key=key)  # pyright: ignore[reportArgumentType]


def dueling_mlp(in_size: int, out_size: int, width: int, key: PRNGKeyArray) -> TwoHeads:
    """Return a network of two hidden layers with rectifiers, and two heads."""
    body_key, scores_key, value_key = split(key, 3)
    return TwoHeads(
        eqx.nn.MLP(
            in_size, width, width, 1, final_activation=jax.nn.relu, key=body_key
        ),
        eqx.nn.Linear(width, out_size, key=scores_key),
        eqx.nn.Linear(width, "scalar", key=value_key),
    )


def layer_norm_mlp(
    in_size: int, out_size: int, width: int, key: PRNGKeyArray
) -> eqx.nn.Sequential:
    """Return a network of two hidden layers with normalised features and rectifiers.

    Source: M. Gallici et al., Simplifying Deep Temporal Difference Learning,
    arXiv:2407.04811.
    """
    keys = split(key, 3)
    layers = list[Any]()
    for size, one in ((in_size, keys[0]), (width, keys[1])):
        layers += [
            eqx.nn.Linear(size, width, key=one),
            LayerNorm(width),
            eqx.nn.Lambda(jax.nn.relu),
        ]
    return eqx.nn.Sequential([*layers, eqx.nn.Linear(width, out_size, key=keys[2])])


def policy_network(
    env: EnvTask[Any],
    argument: str,
    given: Any,
    kind: type,
    default: Callable[[int, PRNGKeyArray], Any],
    key: PRNGKeyArray,
) -> Any:
    """Return the network of a policy that learns from single steps.

    **Arguments:**

    - `env`: the task that it will play.
    - `argument`: the network's name in messages.
    - `given`: a module, a function `(key) -> module`, a policy of class `kind` that was
        trained before, or `None` for `default(obs_dims, key)`.
    - `kind`: the class of the policy, which has a field `network`.
    - `key`: initialises the network.

    **Raises:** `TypeError` or `ValueError` for a network that does not fit the task.
    """
    if isinstance(given, NormalizedPolicy):
        given = given.policy
    if given is None:
        check_flat(env, argument)
        given = default(env.space.obs_dims, key)
    made = made_network(argument, given, key, NormalizedPolicy)
    network = made.network if isinstance(made, kind) else made
    check_memory(argument, network)
    return network


def check_scores(
    env: EnvTask[Any], argument: str, network: Any, size: int, scores: str
) -> None:
    """Refuse a network, or a policy, that does not return one float vector of a size.

    **Arguments:**

    - `env`, `argument`: as for `policy_network`.
    - `size`: the size of the vector.
    - `scores`: says what the numbers are, for the message.

    **Raises:** `ValueError`.
    """
    shape: Any = output_shape(env, argument, network)
    fits = isinstance(shape, jax.ShapeDtypeStruct) and shape.shape == (size,)
    if not (fits and jnp.issubdtype(shape.dtype, jnp.floating)):
        raise ValueError(
            f"`{argument}` must return {scores}: a float vector of shape ({size},), "
            f"but got {_shown(shape)}."
        )


def _shown(shape: Any) -> str:
    if isinstance(shape, jax.ShapeDtypeStruct):
        return f"a {shape.dtype} array of shape {shape.shape}"
    return describe(shape)


def greedy_policy(
    env: EnvTask[Any],
    network: Network | None,
    default: Callable[[int, PRNGKeyArray], Any],
    actions: int,
    key: PRNGKeyArray,
) -> GreedyPolicy:
    """Return the policy by a network of one score for each action.

    **Arguments:**

    - `network`: as `given` for `policy_network`.
    - `actions`: the number of actions.
    - `env`, `default`, `key`: as for `policy_network`.

    **Raises:** `TypeError` or `ValueError` for a network that does not fit the task.
    """
    kind = GreedyPolicy
    policy = kind(policy_network(env, "network", network, kind, default, key))
    what = "one score for each action, or `(scores, value)`"
    check_scores(env, "network", policy, actions, what)
    return policy


def critics(
    env: EnvTask[Any],
    critic: Network | None,
    default: Callable[[int, PRNGKeyArray], Any],
    count: int,
    inputs: tuple[Any, ...],
    shape: tuple[int, ...],
    key: PRNGKeyArray,
) -> Any:
    """Return several critics as one module, with a leading axis on each array.

    **Arguments:**

    - `env`: the task.
    - `critic`: a function `(key) -> module`; a module if `count` is 1; or `None` for
        `default(obs_dims, key)`.
    - `count`: the number of critics.
    - `inputs`: the shapes and types of what a critic gets.
    - `shape`: the shape of what it returns; one number may also have shape `(1,)`.
    - `key`: initialises them.

    **Raises:** `TypeError` or `ValueError` for a critic that does not fit.
    """
    if critic is None:
        check_flat(env, "critic")
        size = env.space.obs_dims
        critic = lambda key: default(size, key)
    if isinstance(critic, eqx.Module) and count > 1:
        raise TypeError(
            f"`critic` must be a function (key) -> module, because {count} of them are "
            "trained, each from a start of its own, but got a "
            f"{type(critic).__name__}. Write `lambda key: ...`."
        )
    made = made_network("critic", critic, key, BasePolicy)
    try:
        got: Any = eqx.filter_eval_shape(made, *inputs)
    except (TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        shapes = [jax.tree.map(lambda leaf: leaf.shape, one) for one in inputs]
        raise ValueError(
            f"`critic` must take {'(obs, action)' if len(inputs) > 1 else '(obs)'}, of "
            f"shapes {', '.join(map(str, shapes))}, but {type(made).__name__} raised "
            f"{type(error).__name__}: {reason} `rx.ActionValue` makes one of a module "
            "that takes one vector."
        ) from error
    fits = isinstance(got, jax.ShapeDtypeStruct) and (
        got.shape == shape or (shape == () and got.shape == (1,))
    )
    if not (fits and jnp.issubdtype(got.dtype, jnp.floating)):
        what = "one number" if shape == () else "one score for each action"
        raise ValueError(
            f"`critic` must return {what}, a float array of shape {shape}, but got "
            f"{_shown(got)}."
        )
    if isinstance(critic, eqx.Module):
        return jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, critic)
    return eqx.filter_vmap(critic)(split(key, count))


def action_critics(
    env: EnvTask[Any], critic: Network | None, count: int, size: int, key: PRNGKeyArray
) -> Any:
    """Return several critics of `(obs, action)`, as `critics` does.

    **Arguments:**

    - `env`, `critic`, `count`, `key`: as for `critics`.
    - `size`: the number of components of an action.
    """
    action = jax.ShapeDtypeStruct((size,), jnp.result_type(float))
    return critics(
        env,
        critic,
        lambda obs, key: ActionValue(relu_mlp(obs + size, "scalar", 256, key)),
        count,
        (env.obs_shape, action),
        (),
        key,
    )


def values(stacked: Any, *inputs: Any) -> Float[Array, "critics batch *actions"]:
    """Return the estimates of several critics for a batch of inputs."""
    arrays, static = eqx.partition(stacked, eqx.is_array)
    count = len(jax.tree.leaves(arrays)[0])
    # One after the other: on CPU, products of matrices side by side are slower.
    each = [eqx.combine(nth(arrays, i), static) for i in range(count)]
    return jnp.stack([jax.vmap(critic.__call__)(*inputs) for critic in each])


def scalar_values(stacked: Any, *inputs: Any) -> Float[Array, "critics batch"]:
    """Return the estimates of critics of one number, of shape `()` or `(1,)`."""
    found = values(stacked, *inputs)
    return found.reshape(found.shape[:2])


def critic_loss(
    batch: Replayed,
    estimates: Float[Array, "critics batch"],
    goal: Float[Array, " batch"],
) -> tuple[Scalar, dict[str, Scalar]]:
    """Return the loss of critics: half of their mean squared errors, added up.

    **Arguments:**

    - `batch`: the transitions.
    - `estimates`: the critics' estimates for the actions there.
    - `goal`: the returns that they learn.

    **Returns:** The loss, and the metrics `value_loss` and `mean_value`, which is that
    of the first critic.
    """
    loss = jnp.sum(jax.vmap(batch.mean)((estimates - goal) ** 2)) / 2
    return loss, {"value_loss": loss, "mean_value": batch.mean(estimates[0])}


def first_critic(stacked: Any) -> Any:
    """Return the first of several critics, as a module of one."""
    return jax.tree.map(lambda leaf: leaf[:1] if eqx.is_array(leaf) else leaf, stacked)


def check_memory(argument: str, network: Any) -> None:
    """Refuse a network with a memory, which single steps cannot train.

    **Raises:** `ValueError`.
    """
    state = eqx.filter_eval_shape(first_state, network, jr.key(0))
    if jax.tree.leaves(state):
        raise ValueError(
            f"`{argument}` must have no memory, because it learns from single steps, "
            f"but got a {type(network).__name__}, whose `initialize` returns a state. "
            "`PPO` trains recurrent networks."
        )


def output_of(network: Any, obs: Any) -> Any:
    """Return the output of a module, or of a policy without memory."""
    return applied(network, obs, first_state(network, jr.key(0)))[0]


def taken(
    scores: Float[Array, "*batch actions"], action: Array
) -> Float[Array, "*batch"]:
    """Return the scores of the actions that were taken."""
    return jnp.take_along_axis(scores, action[..., None], axis=-1)[..., 0]
