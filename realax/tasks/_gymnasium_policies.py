"""The policies of several lanes, which choose their actions in one compiled call."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._check import no_type_check
from .._keys import fold_in
from .._trees import where
from .._workers import Setup
from ..policies import Moments
from ._checks import policy_from
from ._rollout import job_keys
from ._spaces import Layouts


# How often to look whether actions are computed before this thread sleeps.
_LOOKS = 100


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a worker knows of a task on gymnasium's environments.

    - `env`, `kws`: a name and the arguments of its constructor, or a function that
        makes an environment.
    - `max_steps`, `lanes`, `fresh`, `flatten_obs`, `model_factory`: those of the task.
    - `count`: whether to sum up the observations.
    - `name`: the name of the environment in messages.
    - `layouts`: those of its observations and actions.
    """

    env: Any
    kws: dict[str, Any]
    max_steps: int
    lanes: int | None
    fresh: bool
    flatten_obs: bool
    model_factory: Any
    count: bool
    name: str
    layouts: Layouts


class _Cast(eqx.Module):
    """Who plays in the lanes: what changes only when lanes take new jobs."""

    policies: Any
    keys: Any


class _Moving(eqx.Module):
    """What each step changes."""

    memory: Any
    moments: Moments | None


@final
class Policies:
    """The compiled part of lanes.

    **Arguments:**

    - `rules`: what is known of the task.
    - `setup`: what all jobs share.
    - `space`: the environment's action space, in `jax-envelope`'s form.
    """

    def __init__(self, rules: Rules, setup: Setup, space: Any):
        self._rules = rules
        self._setup = setup
        self._space = space
        # One lane as it was traced: its structure, and its leaves that are no arrays.
        self._rest: Any = None

    def moments_of(self, moving: list[Any]) -> Callable[[int], Any]:
        """Return a function from a lane to the sums over its observations.

        **Arguments:**

        - `moving`: the arrays of the `_Moving` of all lanes.
        """
        arrays = [np.asarray(leaf) for leaf in moving]
        return rows_of(_with_arrays(self._rest[1], arrays).moments)

    @functools.cached_property
    def begun(self) -> Any:
        """The compiled start of new episodes in some of the lanes.

        It returns lists of the arrays of the `_Cast` and of the `_Moving`, which jax
        takes faster than modules, and the raw keys of the environments.
        """
        setup, rules = self._setup, self._rules

        def begin(arrays: Any, row: Any, words: Any) -> Any:
            one = setup.population([leaf[row] for leaf in arrays])
            policy = policy_from(one, rules.model_factory)
            env_key, init_key, key = job_keys(jr.wrap_key_data(words))
            moments = self._no_moments() if rules.count else None
            memory = policy.initialize(init_key)
            cast, moving = _Cast(policy, key), _Moving(memory, moments)
            self._rest = jax.tree.map(_without_array, (cast, moving))
            return _arrays_of(cast), _arrays_of(moving), jr.key_data(env_key)

        def begun(arrays: Any, rows: Any, keys: Any, fresh: Any, before: Any) -> Any:
            cast, moving, words = jax.vmap(begin, (None, 0, 0))(arrays, rows, keys)
            if before is not None:
                moving = jax.vmap(where)(fresh, moving, before)
            return cast, moving, words

        return jax.jit(begun)

    @functools.cached_property
    def some(self) -> Any:
        """The compiled choice of the arrays of some of the lanes."""
        return jax.jit(lambda arrays, rows: jax.tree.map(lambda x: x[rows], arrays))

    def _no_moments(self) -> Moments:
        zeros = jnp.zeros((self._rules.layouts.obs.size,))
        return Moments(jnp.zeros(()), zeros, zeros, zeros)

    @functools.cached_property
    def decided(self) -> Any:
        """The compiled choice of an action in each lane."""
        rules, space = self._rules, self._space

        def decide(cast: Any, moving: Any, obs: Any, t: Any, live: Any) -> Any:
            before = cast, moving
            cast, moving = map(_with_arrays, self._rest, before)
            shown = rules.layouts.obs.flatten(obs) if rules.flatten_obs else obs
            policy, memory = cast.policies, moving.memory
            noise = policy.noise_for(fold_in(cast.keys, t), shown, memory)
            decision = policy.decide(shown, memory, noise)
            action = rules.layouts.action.to_action(decision.output, space, live)
            moments = moving.moments
            if moments is not None:
                first = Moments.before(shown).with_obs(shown)
                counted = where(t == 0, first, moments.with_obs(shown))
                moments = where(live, counted, moments)
            return action, _arrays_of(_Moving(decision.state, moments))

        return jax.jit(jax.vmap(decide))


def _without_array(leaf: Any) -> Any:
    """Return something in the place of a traced array, which is invalid later."""
    return np.zeros(()) if eqx.is_array_like(leaf) else leaf


def _arrays_of(tree: Any) -> list[Any]:
    return [jnp.asarray(x) for x in jax.tree.leaves(tree) if eqx.is_array_like(x)]


def _with_arrays(tree: Any, arrays: list[Any]) -> Any:
    """Return a tree with other arrays in the places of its own."""
    leaves, structure = jax.tree.flatten(tree)
    found = iter(arrays)
    return jax.tree.unflatten(
        structure, [next(found) if eqx.is_array_like(x) else x for x in leaves]
    )


@no_type_check
def rows_of(tree: Any) -> Callable[[int], Any]:
    """Return a function from a lane to its part of a tree of arrays."""
    if isinstance(tree, jax.Array):
        _wait_awake(tree)
        return np.asarray(tree).__getitem__
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(leaf) for leaf in leaves]
    return lambda i: jax.tree.unflatten(structure, [array[i] for array in arrays])


@no_type_check
def _wait_awake(array: Any) -> None:
    """Wait some 20 us for an array, because to be woken takes as long."""
    for _ in range(_LOOKS):
        if array.is_ready():
            return
