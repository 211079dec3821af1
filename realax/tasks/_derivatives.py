"""Detection of environments that stop gradients, and errors for their derivatives."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.extend.core import Jaxpr, Literal

from .._frozen import cached
from .._types import Tree
from ._spaces import Layout


# Flags of a variable in a program: it depends on the inputs along a path that
# derivatives pass, or along one that `stop_gradient` cuts.
_PASSES, _CUT = 1, 2

# Operations with their own derivative rules, which hold whatever they compute inside.
_OWN_RULES = ("custom_jvp_call", "custom_vjp_call")

# The parameters of loops and compiled functions that hold the program they run.
_INNER = ("body_jaxpr", "jaxpr", "call_jaxpr")


def stops_gradients(environment: Any, actions: Layout) -> bool:
    """Return whether a result of a step depends on its inputs by `stop_gradient` alone.

    Derivatives through an episode are then wrong, and mostly zero. A `stop_gradient`
    beside another path, as in the softmax, is no obstacle: its author chose the
    derivative.

    **Arguments:**

    - `environment`: an environment of `jax-envelope`. It is only traced.
    - `actions`: the layout of its actions.
    """
    leaves, treedef = jax.tree.flatten(environment)
    return _stops(treedef, tuple(map(_abstract, leaves)), actions)


def outline[T](tree: T) -> T:
    """Return `tree` with shapes in place of arrays.

    jax keeps what `guarded` calls together with a program, which may outlive the traced
    arrays of its task.
    """
    return jax.tree.map(_abstract, tree)


def guarded[T](tree: T, stopped: Callable[[], str | None]) -> T:
    """Return `tree`; differentiating it is an error if the derivative would be wrong.

    **Arguments:**

    - `tree`: anything; only its floating-point arrays can be differentiated.
    - `stopped`: called when a derivative is taken; returns the reason why it would be
        wrong, as a sentence, or `None`.

    **Raises:** `TypeError` with that reason, when a derivative is taken.
    """
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)

    @jax.custom_jvp
    def same(arrays: Any) -> Any:
        return arrays

    def rule(primals: Any, tangents: Any) -> Any:
        reason = stopped()
        if reason is not None:
            raise TypeError(
                f"an episode cannot be differentiated here: {reason} To keep it fixed "
                "while other things are differentiated, pass "
                "`jax.lax.stop_gradient` of its parameters."
            )
        return primals[0], tangents[0]

    same.defjvp(rule)
    return eqx.combine(same(arrays), rest)


def _abstract(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array | np.ndarray):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return leaf


@cached
def _stops(treedef: Any, leaves: tuple[Any, ...], actions: Layout) -> bool:
    shapes = [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]

    def built(arrays: Any) -> Any:
        left = iter(arrays)
        return jax.tree.unflatten(
            treedef,
            [next(left) if isinstance(x, jax.ShapeDtypeStruct) else x for x in leaves],
        )

    def first(arrays: Any, key: Any) -> Any:
        return built(arrays).init(key)[0]

    def begin(arrays: Any, key: Any) -> Any:
        space = built(arrays).action_space
        action = actions.to_action(jnp.zeros(actions.size), space)
        state = first(arrays, key)
        return action, jax.tree.map(jnp.asarray, eqx.filter(state, eqx.is_array_like))

    def step(arrays: Any, start: Any) -> Tree:
        environment = built(arrays)
        action, state = start
        after, info = environment.step(eqx.combine(state, static), action)
        seen = after, info.obs, info.reward
        return jax.tree.map(jnp.asarray, eqx.filter(seen, eqx.is_array_like))

    key: Any = jax.eval_shape(lambda: jr.key(0))
    state = eqx.filter_eval_shape(first, shapes, key)
    static = eqx.filter(state, _numeric, inverse=True)
    start = jax.eval_shape(begin, shapes, key)
    closed = jax.make_jaxpr(step)(shapes, start)
    program = _program(closed)
    flags = [_PASSES * _smooth(var) for var in program.invars]
    return _CUT in _flow(program, flags)


def _numeric(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct) or eqx.is_array_like(leaf)


def _smooth(var: Any) -> bool:
    return jnp.issubdtype(var.aval.dtype, jnp.inexact)


def _flow(program: Jaxpr, flags: list[int]) -> list[int]:
    """Return the flags of a program's outputs, given the flags of its inputs."""
    known: dict[Any, int] = dict(zip(program.invars, flags, strict=True))

    def read(var: Any) -> int:
        return 0 if isinstance(var, Literal) else known.get(var, 0)

    for equation in program.eqns:
        outputs = _through(equation, list(map(read, equation.invars)))
        for var, flag in zip(equation.outvars, outputs, strict=True):
            known[var] = flag if _smooth(var) else 0
    return list(map(read, program.outvars))


def _through(equation: Any, flags: list[int]) -> list[int]:
    name, params = equation.primitive.name, equation.params
    everything = functools.reduce(operator.or_, flags, 0)
    if name == "stop_gradient":
        return [_CUT if everything else 0]
    if name == "cond":
        ways = [_flow(_program(branch), flags[1:]) for branch in params["branches"]]
        return [functools.reduce(operator.or_, way) for way in zip(*ways, strict=True)]
    inner = [params[key] for key in _INNER if key in params]
    if not inner or name in _OWN_RULES:
        return [everything] * len(equation.outvars)
    program = _program(inner[0])
    if name in ("scan", "while") or len(program.invars) != len(flags):
        # In a loop, each variable may depend on all those of the iteration before.
        flags = [everything * _smooth(var) for var in program.invars]
    return _flow(program, flags)


def _program(closed: Any) -> Jaxpr:
    return getattr(closed, "jaxpr", closed)
