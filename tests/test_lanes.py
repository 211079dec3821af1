"""Lanes: the same episodes as the scan's, whatever is played beside them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx

from .helpers import close, python, same


# They compare bits, which lanes and the scan share in programs as users compile them.
pytestmark = pytest.mark.usefixtures("optimized")


def _population(task: Any, pop: int) -> Any:
    def policy(key: Any) -> Any:
        return rx.MLPPolicy(*task.space[:2], width=8, depth=1, key=key)

    return eqx.filter_vmap(policy)(jr.split(jr.key(0), pop))


def _evaluate(task: Any, pop: int = 8, reps: int = 4) -> Any:
    keys = jr.split(jr.key(1), (pop, reps))
    return eqx.filter_jit(task.evaluate)(_population(task, pop), keys)


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "Catch-bsuite"])
@pytest.mark.parametrize(
    ("lanes", "chunk"), [(7, None), (16, 5), (32, 1), (None, None)]
)
def test_lanes_are_the_scan(name: str, lanes: int | None, chunk: int | None) -> None:
    expected = _evaluate(rx.GymnaxTask(name, max_steps=None, lanes=0))
    found = _evaluate(rx.GymnaxTask(name, lanes=lanes, chunk=chunk))
    assert same(found, expected)
    assert len(set(expected[1]["length"].ravel().tolist())) > 1 or name != "CartPole-v1"


def test_an_episode_is_the_one_that_is_played_alone() -> None:
    task = rx.GymnaxTask("CartPole-v1")
    values, aux = _evaluate(task, 5, 3)
    keys = jr.split(jr.key(1), (5, 3))
    play = eqx.filter_jit(task)
    for i in range(5):
        policy = jax.tree.map(
            lambda x, i=i: x[i] if eqx.is_array(x) else x, _population(task, 5)
        )
        for j in range(3):
            value, one = play(policy, keys[i, j])
            assert value == values[i, j] and one["length"] == aux["length"][i, j]


def test_continuous_actions() -> None:
    """Within float noise: a policy's sums depend on how many are made at once."""
    expected = _evaluate(rx.GymnaxTask("Pendulum-v1", max_steps=40, lanes=0))
    for lanes in (2, 9, 32):
        found = _evaluate(rx.GymnaxTask("Pendulum-v1", max_steps=40, lanes=lanes))
        assert close(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_brax_in_lanes() -> None:
    def task(lanes: int) -> Any:
        return rx.BraxTask("inverted_pendulum", 60, lanes=lanes)

    expected = _evaluate(task(0), 4, 3)
    found = _evaluate(task(5), 4, 3)
    assert close(found, expected, rtol=1e-3)
    assert len(set(expected[1]["length"].ravel().tolist())) > 1


@pytest.mark.slow
def test_brax_in_lanes_on_two_devices() -> None:
    def run(devices: int) -> Any:
        task = rx.BraxTask("inverted_pendulum", 20, backend="spring", lanes=2)
        policy = rx.MLPPolicy(*task.space[:2], width=4, depth=1, key=jr.key(0))
        trainer = rx.EvosaxTrainer(
            1, "SNES", task, policy, popsize=8, n_devices=devices
        )
        return trainer.init_and_train(jr.key(0))[1]["metrics"]["fitness"]

    assert close(run(2), run(1), rtol=1e-3)


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
    policy = _population(rx.GymnaxTask("Pendulum-v1"), 3)
    keys = jr.split(jr.key(1), (3, 2))

    def total(policy: Any, lanes: int) -> Any:
        task = rx.GymnaxTask("Pendulum-v1", max_steps=10, lanes=lanes)
        return jnp.sum(task.evaluate(policy, keys)[0])

    for transform in (eqx.filter_grad, _forward):
        slopes = [
            transform(lambda p, lanes=lanes: total(p, lanes))(policy)
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
        "import realax as rx, jax, jax.numpy as jnp\n"
        f"print(rx.enable_compilation_cache({str(tmp_path / 'deep')!r}))\n"
        "jax.jit(lambda x: x + 1)(jnp.ones(3))"
    )
    result = python("-c", code)
    assert result.stdout == f"{tmp_path / 'deep'}\n", result.stderr
    assert any((tmp_path / "deep").iterdir())
    default = python(
        "-c",
        "import os; os.environ['XDG_CACHE_HOME'] = "
        f"{str(tmp_path)!r}\nimport realax as rx\nprint(rx.enable_compilation_cache())",
    )
    assert default.stdout == f"{tmp_path / 'realax' / 'xla'}\n"
    assert np.all([(tmp_path / "realax" / "xla").is_dir()])
