"""Lanes: the same episodes as the scan's, whatever is played beside them."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import realax as rx
from realax.tasks import _lanes

from .helpers import close, python, same
from .reach import Reach


# Of tests that compare bits, which lanes and the scan share in programs as users
# compile them.
optimized = pytest.mark.usefixtures("optimized")


def _population(task: Any, pop: int) -> Any:
    def policy(key: Any) -> Any:
        return rx.MLPPolicy(*task.space[:2], width=8, depth=1, key=key)

    return eqx.filter_vmap(policy)(jr.split(jr.key(0), pop))


def _evaluate(task: Any, pop: int = 8, reps: int = 4) -> Any:
    keys = jr.split(jr.key(1), (pop, reps))
    return eqx.filter_jit(task.evaluate)(_population(task, pop), keys)


@functools.cache
def _by_scan(name: str) -> Any:
    return _evaluate(rx.GymnaxTask(name, max_steps=None, lanes=0))


# Episodes of different lengths by every number of lanes; of equal ones, long and short,
# by one each.
@optimized
@pytest.mark.parametrize(
    ("name", "lanes", "chunk"),
    [
        ("CartPole-v1", 7, None),
        ("CartPole-v1", 16, 5),
        ("CartPole-v1", 32, 1),
        ("CartPole-v1", None, None),
        ("Acrobot-v1", 7, None),
        ("Catch-bsuite", 16, 5),
        # States of hundreds of numbers, whose last episodes are played one by one.
        ("Breakout-MinAtar", 7, None),
        ("Breakout-MinAtar", None, 2),
    ],
)
def test_lanes_are_the_scan(name: str, lanes: int | None, chunk: int | None) -> None:
    expected = _by_scan(name)
    found = _evaluate(rx.GymnaxTask(name, lanes=lanes, chunk=chunk))
    assert same(found, expected)
    various = len(set(expected[1]["length"].ravel().tolist())) > 1
    assert various or name not in ("CartPole-v1", "Breakout-MinAtar")


@optimized
def test_an_episode_is_the_one_that_is_played_alone() -> None:
    task = rx.GymnaxTask("CartPole-v1")
    values, aux = _evaluate(task, 5, 3)
    population, keys = _population(task, 5), jr.split(jr.key(1), (5, 3))
    play = eqx.filter_jit(task)
    for i in range(5):
        policy = jax.tree.map(lambda x, i=i: x[i] if eqx.is_array(x) else x, population)
        for j in range(3):
            value, one = play(policy, keys[i, j])
            assert value == values[i, j] and one["length"] == aux["length"][i, j]


@pytest.mark.parametrize(
    ("name", "last"), [("CartPole-v1", []), ("Breakout-MinAtar", [4])]
)
def test_the_last_episodes_of_large_states_are_played_one_by_one(
    name: str, last: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    play, seen = _lanes._one_by_one, list[int]()

    def recorded(state: Any, jobs: Any, last: int) -> Any:
        seen.append(last)
        return play(state, jobs, last)

    monkeypatch.setattr(_lanes, "_one_by_one", recorded)
    task = rx.GymnaxTask(name, lanes=7)
    keys = jr.split(jr.key(1), (8, 4))
    eqx.filter_eval_shape(task.evaluate, _population(task, 8), keys)
    assert seen == last


def test_continuous_actions() -> None:
    """Within float noise: a policy's sums depend on how many are made at once."""
    expected = _evaluate(rx.GymnaxTask("Pendulum-v1", max_steps=40, lanes=0))
    for lanes in (2, 9):
        found = _evaluate(rx.GymnaxTask("Pendulum-v1", max_steps=40, lanes=lanes))
        assert close(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_brax_in_lanes_on_two_devices() -> None:
    def run(lanes: int, devices: int) -> Any:
        task = rx.BraxTask("inverted_pendulum", 60, backend="spring", lanes=lanes)
        policy = rx.MLPPolicy(*task.space[:2], width=4, depth=1, key=jr.key(0))
        trainer = rx.EvosaxTrainer(
            1, "SNES", task, policy, popsize=16, n_devices=devices
        )
        metrics = trainer.init_and_train(jr.key(0))[1]["metrics"]
        return metrics["fitness"], metrics["eval_data"]["length"]

    found, expected = run(6, 2), run(0, 1)  # the last ones one by one
    assert close(found, expected, rtol=1e-3)
    assert len(set(expected[1].ravel().tolist())) > 1


@optimized
def test_a_recurrent_policy_starts_anew() -> None:
    def population(task: Any) -> Any:
        def policy(key: Any) -> Any:
            return rx.RNNPolicy(*task.space[:2], hidden=6, key=key)

        return eqx.filter_vmap(policy)(jr.split(jr.key(0), 6))

    keys = jr.split(jr.key(1), (6, 4))
    results = [
        eqx.filter_jit(task.evaluate)(population(task), keys)
        for task in (rx.GymnaxTask("CartPole-v1", lanes=n) for n in (0, 5))
    ]
    assert same(*results)


class Dice(rx.BasePolicy[Any]):
    """Draws at the start of an episode and in each of its steps."""

    weight: jax.Array

    def initialize(self, key: Any) -> Any:
        return jr.normal(key, (2,))

    def __call__(self, obs: Any, state: Any, key: Any) -> Any:
        drawn = jr.normal(key, (2,))
        return self.weight * obs[:2] + state + drawn, state + 0.1 * drawn


@optimized
def test_populations_side_by_side_are_each_their_own() -> None:
    task = rx.GymnaxTask("Breakout-MinAtar", lanes=7)  # the last ones one by one
    arrays, static = eqx.partition(_population(task, 4), eqx.is_array)
    evaluate = lambda keys: task.evaluate(eqx.combine(arrays, static), keys)
    keys = jr.split(jr.key(3), (2, 4, 4))
    together = eqx.filter_jit(jax.vmap(evaluate))(keys)
    alone = eqx.filter_jit(evaluate)
    for i in range(2):
        assert same(jax.tree.map(lambda x, i=i: x[i], together), alone(keys[i]))


@optimized
def test_a_random_policy_draws_the_same() -> None:
    keys, population = jr.split(jr.key(1), (6, 4)), Dice(jnp.arange(6.0))
    scan, lanes = [
        eqx.filter_jit(rx.GymnaxTask("CartPole-v1", lanes=n).evaluate)(population, keys)
        for n in (0, 5)
    ]
    assert same(lanes, scan)
    alone, _ = rx.GymnaxTask("CartPole-v1")(Dice(jnp.asarray(2.0)), keys[2, 1])
    assert alone == scan[0][2, 1]


@optimized
def test_policies_are_made_from_parameters() -> None:
    def factory(weights: Any) -> Any:
        policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
        return eqx.tree_at(lambda p: p.mlp.layers[-1].weight, policy, weights)

    weights = jr.normal(jr.key(2), (5, 2, 8))
    keys = jr.split(jr.key(1), (5, 2))
    results = [
        eqx.filter_jit(rx.GymnaxTask("CartPole-v1", None, factory, lanes=n).evaluate)(
            weights, keys
        )
        for n in (0, 4)
    ]
    assert same(*results)


@optimized
def test_memory_follows_the_lanes() -> None:
    """A hundred thousand small policies need no more than their parameters."""
    pop = 100_000
    task = rx.GymnaxTask("CartPole-v1")
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    arrays, static = eqx.partition(policy, eqx.is_array)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((pop, *x.shape), x.dtype), arrays
    )

    def evaluate(arrays: Any, key: Any) -> Any:
        keys = jr.split(key, (pop, 1))
        return task.evaluate(eqx.combine(arrays, static), keys)

    compiled = jax.jit(evaluate).lower(shapes, jr.key(0)).compile()
    memory: Any = compiled.memory_analysis()
    parameters = sum(x.size * 4 for x in jax.tree.leaves(shapes))
    assert memory.argument_size_in_bytes < 1.1 * parameters
    # Keys, and where each job's results go: 32 + 8 bytes, some of them twice.
    assert memory.temp_size_in_bytes < 150 * pop < parameters


def test_derivatives_are_those_of_the_scan() -> None:
    policy = rx.MLPPolicy(3, 2, 8, 1, key=jr.key(0))
    policy = jax.tree.map(
        lambda x: jnp.stack([x, 2 * x, -x]) if eqx.is_array(x) else x, policy
    )
    keys = jr.split(jr.key(1), (3, 2))

    def total(policy: Any, lanes: int) -> Any:
        task = rx.make(Reach(), max_steps=7, lanes=lanes)
        return jnp.sum(task.evaluate(policy, keys)[0])

    for transform in (eqx.filter_grad, _forward):
        slopes = [
            eqx.filter_jit(transform(lambda p, lanes=lanes: total(p, lanes)))(policy)
            for lanes in (0, 4)
        ]
        assert close(*(eqx.filter(s, eqx.is_array) for s in slopes))


def _forward(function: Any) -> Any:
    def derivative(policy: Any) -> Any:
        arrays, static = eqx.partition(policy, eqx.is_array)
        ones = jax.tree.map(jnp.ones_like, arrays)
        return jax.jvp(lambda a: function(eqx.combine(a, static)), (arrays,), (ones,))[
            1
        ]

    return derivative


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="`lanes` of `Gym.*at least 0, but got -1"):
        rx.GymnaxTask("CartPole-v1", lanes=-1)
    with pytest.raises(ValueError, match="`chunk` of `Gym.*at least 1, but got 0"):
        rx.make("CartPole-v1", chunk=0)


def test_compiled_programs_are_kept(tmp_path: Any) -> None:
    code = (
        "import os, realax as rx, jax, jax.numpy as jnp\n"
        f"print(rx.enable_compilation_cache({str(tmp_path / 'deep')!r}))\n"
        "jax.jit(lambda x: x + 1)(jnp.ones(3))\n"
        f"os.environ['XDG_CACHE_HOME'] = {str(tmp_path)!r}\n"
        "print(rx.enable_compilation_cache())"
    )
    result = python("-c", code)
    default = tmp_path / "realax" / "xla"
    assert result.stdout == f"{tmp_path / 'deep'}\n{default}\n", result.stderr
    assert any((tmp_path / "deep").iterdir())
    assert default.is_dir()
