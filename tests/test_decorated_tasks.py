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
from realax.tasks import AbstractWrapper, FunctionTask, as_task
from realax.tasks._observing import evaluated


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
    assert as_task(task).maximize
    assert as_task(functools.partial(jax.jit(task))).maximize
    assert not as_task(_negated(task)).maximize
    assert not as_task(functools.partial(_negated(_negated(task)))).maximize
    own = _negated(task)
    own.maximize = False
    assert not as_task(own).maximize

    def function(params: Any, key: Any, data: Any) -> Any:
        return jnp.sum(params**2), None

    function.maximize = True  # pyright: ignore[reportFunctionMemberAccess]
    function.compiler_options = {"xla_cpu_enable_fast_math": True}  # pyright: ignore
    assert as_task(function).maximize and as_task(function).compiler_options
    wrapped = _negated(function)
    assert not as_task(wrapped).maximize and not as_task(wrapped).compiler_options
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


def test_statistics_cannot_reach_through_a_decorator() -> None:
    task = rx.GymnaxTask("CartPole-v1", max_steps=9, normalize_obs=True)
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    for one in _negated(task), _negated(_negated(jax.jit(task))):
        for make in (
            lambda one=one: rx.EvosaxTrainer(2, "SNES", one, policy),
            lambda one=one: rx.OptaxTrainer(2, "sgd", lambda key: policy, one),
            lambda one=one: rx.Minibatch(one, 2),
            lambda one=one: as_task(functools.partial(one)),
        ):
            with pytest.raises(
                ValueError, match="decorates a task with `normalize_obs`"
            ):
                make()
    assert as_task(functools.partial(task)) is task
    assert isinstance(as_task(_negated(rx.GymnaxTask("CartPole-v1"))), FunctionTask)


def test_a_task_is_made_once() -> None:
    task = Climb()
    for one in task, jax.jit(task), functools.partial(eqx.filter_jit(task)):
        assert as_task(one) == task
    assert as_task(_negated(task)) != as_task(_negated(task))
    negated = _negated(task)
    assert as_task(negated) == as_task(negated) == as_task(as_task(negated))
    assert hash(as_task(negated)) == hash(as_task(negated))
    made = as_task(_shown)
    assert as_task(made) is made and as_task(functools.partial(made)) is made
    assert as_task(_shown) == made and hash(as_task(_shown)) == hash(made)
    value, aux = made(jnp.ones(1), jr.key(0), jnp.arange(2.0))
    assert (float(value), aux.shape) == (1, (2,))
    assert made.display_name == as_task(functools.partial(_shown)).display_name
    assert made.display_name == "`_shown`"


def test_what_a_partial_completes() -> None:
    """A task with an argument more: its direction holds, and its own call."""

    class Scaled(rx.AbstractTask[Any]):
        maximize: bool = True
        differentiable = False

        def __call__(
            self, params: Any, key: Any, data: Any = None, *, scale: float = 1.0
        ) -> Any:
            return scale * jnp.sum(params), None

    task = as_task(functools.partial(Scaled(), scale=3.0))
    assert task.maximize and not task.differentiable and task.obstacle
    assert float(task(jnp.ones(2), jr.key(0))[0]) == 6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Climb, r"`loss_fn` must be a task, but got the class `Climb`.*`Climb\("),
        (3.0, r"`loss_fn` must be a function \(params, key, data\).*but got 3.0"),
        (lambda params: (0.0, None), "`loss_fn` must have the signature.*<lambda>"),
    ],
)
def test_what_is_no_task(given: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        as_task(given, "loss_fn")


class _Wrapped(AbstractWrapper[Any]):
    task: Any

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return self.task(params, key, data)

    def evaluate_and_observe(self, population: Any, keys: Any, data: Any = None) -> Any:
        return evaluated(self.task, population, keys, data)


def test_a_wrapper_forwards_the_batch_of_a_step() -> None:
    """All individuals of a generation get one batch, as without the wrapper."""

    def loss(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum((x - data) ** 2), jnp.sum(data)

    def batches(task: Any) -> Any:
        trainer = rx.EvosaxTrainer(4, "SNES", task, jnp.ones(2), popsize=4)
        _, record = trainer.init_and_train(jr.key(0), jnp.arange(8.0)[:, None])
        return record["metrics"]["eval_data"]

    task = rx.Minibatch(loss, 2)
    assert np.array_equal(batches(_Wrapped(task)), batches(task))
