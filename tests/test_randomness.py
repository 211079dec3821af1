"""Whether a task draws random numbers is found out from its code."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import realax as rx
from realax.tasks import as_task

from .helpers import rastrigin


def noisy(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(params) + jr.normal(key), None


def plain(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(params), None


def by_an_inner_function(params: Any, key: Any, data: Any = None) -> Any:
    def inner() -> Any:
        return jr.normal(key)

    return jnp.sum(params) + inner(), None


def another_name(params: Any, seed: Any, key: Any = None) -> Any:
    """Its third parameter is called `key`, and is the data."""
    del seed
    return jnp.sum(params) + key, None


def scaled(scale: Any, params: Any, key: Any, data: Any = None) -> Any:
    return scale * jnp.sum(params), None


def scaled_by_name(params: Any, key: Any, data: Any, *, scale: Any) -> Any:
    return scale * jnp.sum(params), None


def scaled_noise(scale: Any, params: Any, key: Any, data: Any = None) -> Any:
    return scale * jr.normal(key), None


def of_any_number(params: Any, *more: Any) -> Any:
    return jnp.sum(params), None


def uses_any_number(params: Any, *more: Any) -> Any:
    return jnp.sum(params) + jr.normal(more[0]), None


def decorated(task: Any) -> Any:
    @functools.wraps(task)
    def wrapper(*args: Any) -> Any:
        return task(*args)

    return wrapper


def declared(params: Any, key: Any, data: Any = None) -> Any:
    return rastrigin(params, key, data)


declared.stochastic = False  # pyright: ignore[reportFunctionMemberAccess]


class Plain(rx.AbstractTask[Any]):
    maximize: bool = True

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(params), None

    def method(self, params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(params), None

    def noisy_method(self, params: Any, key: Any, data: Any = None) -> Any:
        return jr.normal(key), None


class Noisy(rx.AbstractTask[Any]):
    maximize: bool = True

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return jr.normal(key), None


class NoisyTogether(Plain):
    def evaluate(self, population: Any, keys: Any, data: Any = None) -> Any:
        return jax.vmap(jax.vmap(jr.normal))(keys), None


class PlainTogether(Plain):
    def evaluate(self, population: Any, keys: Any, data: Any = None) -> Any:
        return jnp.zeros((4, 1)), None


class SaysNot(Noisy):
    @property
    def stochastic(self) -> bool:
        return False


class Callable:
    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(params), None

    def noisy(self, params: Any, key: Any, data: Any = None) -> Any:
        return jr.normal(key), None


TASKS: list[tuple[str, Any, bool]] = [
    ("function", noisy, True),
    ("plain", plain, False),
    ("del key", rastrigin, False),
    ("captured", by_an_inner_function, True),
    ("names", another_name, False),
    ("lambda", lambda x, key, data=None: (jnp.sum(x), None), False),
    ("noisy lambda", lambda x, k, d: (jr.normal(k), None), True),
    ("rest", of_any_number, False),
    ("uses rest", uses_any_number, True),
    ("jit", jax.jit(plain), False),
    ("noisy jit", jax.jit(noisy), True),
    ("filter_jit", eqx.filter_jit(plain), False),
    ("partial", functools.partial(scaled, 2.0), False),
    ("noisy partial", functools.partial(scaled_noise, 2.0), True),
    ("partial of jit", functools.partial(jax.jit(scaled), 2.0), False),
    ("by name", functools.partial(scaled_by_name, scale=2.0), False),
    ("calls another", lambda x, key, data: noisy(x, key, data), True),
    ("decorated", decorated(plain), True),
    ("declared", decorated(declared), False),
    ("vmap", jax.vmap(plain), True),
    ("task", Plain(), False),
    ("noisy task", Noisy(), True),
    ("jitted task", eqx.filter_jit(Plain()), False),
    ("own evaluate", NoisyTogether(), True),
    ("plain evaluate", PlainTogether(), False),
    ("says not", SaysNot(), False),
    ("method", Plain().method, False),
    ("noisy method", Plain().noisy_method, True),
    ("callable", Callable(), False),
    ("its method", Callable().noisy, True),
    ("minibatch", rx.Minibatch(plain, 2), True),
    ("partial minibatch", functools.partial(rx.Minibatch(plain, 2)), True),
]


@pytest.mark.parametrize(("name", "task", "expected"), TASKS, ids=lambda x: str(x)[:20])
def test_draws(name: str, task: Any, expected: bool) -> None:
    assert as_task(task).stochastic is expected, name
    trainer = rx.EvosaxTrainer(1, "SNES", task, jnp.ones(2))
    metric = "mean_fitness" if expected else "best_fitness"
    assert trainer.objective[0] == metric


def test_environments_draw() -> None:
    assert rx.GymnaxTask("CartPole-v1").stochastic
