"""Tasks behind decorators: what computes is what is trained."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax.tasks._base import begun, is_maximized, options_of


# equinox fears for the arrays of what is decorated, which here shall stay as they are.
pytestmark = pytest.mark.filterwarnings("ignore:\\nPossibly assigning:UserWarning")


def _negated(task: Any) -> Any:
    @functools.wraps(task)
    def wrapper(params: Any, key: Any, data: Any = None) -> Any:
        value, aux = task(params, key, data)
        return -value, aux

    return wrapper


class Climb(rx.AbstractTask[Any]):
    """Says its direction and its options in fields, which `functools.wraps` copies."""

    maximize: bool = True

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return -jnp.sum(params**2), None


def test_what_a_decorator_negates_is_minimised() -> None:
    task = rx.GymnaxTask("CartPole-v1", max_steps=200)
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    trainer = rx.EvosaxTrainer(25, "SNES", _negated(task), policy, popsize=24)
    assert trainer.objective == ("mean_fitness", "min")
    state = trainer.init_and_train_(jr.key(1))
    assert state.best_fitness < 0, "the decorated value is what is logged"
    play = eqx.filter_jit(lambda key: task(trainer.params(state), key)[0])
    assert np.mean([play(key) for key in jr.split(jr.key(2), 16)]) > 100


def test_what_is_only_copied_does_not_count() -> None:
    task = Climb()
    assert is_maximized(task) and is_maximized(functools.partial(jax.jit(task)))
    assert not is_maximized(_negated(task))
    assert not is_maximized(functools.partial(_negated(_negated(task))))
    own = _negated(task)
    own.maximize = False
    assert not is_maximized(own)

    def function(params: Any, key: Any, data: Any) -> Any:
        return jnp.sum(params**2), None

    function.maximize = True  # pyright: ignore[reportFunctionMemberAccess]
    function.compiler_options = {"xla_cpu_enable_fast_math": True}  # pyright: ignore
    assert is_maximized(function) and options_of(function)
    wrapped = _negated(function)
    assert not is_maximized(wrapped) and not options_of(wrapped)
    state = rx.EvosaxTrainer(60, "SNES", wrapped, jnp.ones(2)).init_and_train_(
        jr.key(0)
    )
    assert state.best_fitness < -1, "minimised: minus the sum falls without end"


def _seen(task: Any, steps: int, **kws: Any) -> Any:
    """The examples of each step, as the metrics hold them."""
    trainer = rx.OptaxTrainer(steps, "sgd", lambda key: jnp.ones(1), task)
    _, record = trainer.init_and_train(jr.key(0), jnp.arange(12.0))
    return np.asarray(record["metrics"]["eval_data"])


def _shown(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(params) * jnp.sum(data), data


@pytest.mark.parametrize("wrap", [functools.partial, jax.jit, eqx.filter_jit])
def test_every_example_once_a_pass(wrap: Any) -> None:
    seen = _seen(wrap(rx.Minibatch(_shown, 4)), 6)
    for rows in seen[:3], seen[3:]:
        assert sorted(rows.ravel()) == [*range(12)]


def test_a_decorated_minibatch_keeps_its_decorator() -> None:
    inner = rx.Minibatch(_shown, 4)

    @functools.wraps(inner)
    def shifted(params: Any, key: Any, data: Any = None) -> Any:
        value, aux = inner(params, key, data)
        return value, aux + 1000

    seen = _seen(shifted, 3)
    assert seen.shape == (3, 4) and np.all(seen >= 1000)


def test_statistics_can_not_reach_through_a_decorator() -> None:
    task = rx.GymnaxTask("CartPole-v1", max_steps=9, normalize_obs=True)
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    for one in _negated(task), _negated(_negated(jax.jit(task))):
        for wrapped in one, functools.partial(one), rx.Minibatch(one, 2):
            with pytest.raises(
                ValueError, match="decorates a task with `normalize_obs`"
            ):
                rx.EvosaxTrainer(2, "SNES", wrapped, policy)
    assert begun(functools.partial(task)) is not None
    assert begun(_negated(rx.GymnaxTask("CartPole-v1"))) is None
