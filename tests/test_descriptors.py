"""Descriptors of episodes: by every route, and what numpy makes of the steps."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx

from .helpers import close, same
from .reach import reach


def angle_and_place(env_state: Any, info: Any) -> Any:
    return jnp.stack([info.obs[2], jnp.abs(info.obs[0])])


class Farthest(rx.AbstractDescriptor):
    """The largest distance from the start, and the share of the horizon."""

    horizon: int = eqx.field(static=True)

    def begin(self, env_state: Any, info: Any) -> Any:
        return {"start": info.obs[0], "far": 0.0}

    def update(self, summary: Any, env_state: Any, info: Any) -> Any:
        far = jnp.maximum(summary["far"], jnp.abs(info.obs[0] - summary["start"]))
        return {**summary, "far": far}

    def end(self, summary: Any, length: Any) -> Any:
        return jnp.stack([summary["far"], length / self.horizon])


def _task(descriptor: Any, **more: Any) -> Any:
    return rx.GymnaxTask("CartPole-v1", max_steps=60, descriptor=descriptor, **more)


def _policy(key: Any) -> Any:
    return rx.MLPPolicy(4, 2, 8, 1, key=key)


_KEYS = jr.split(jr.key(1), (12, 3))


@functools.cache
def _population() -> Any:
    return eqx.filter_vmap(_policy)(jr.split(jr.key(0), 12))


def _one(population: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i] if eqx.is_array(x) else x, population)


@eqx.filter_jit
def _steps(policy: Any, key: Any) -> Any:
    """Every observation, by the environment's own steps; and which steps count."""
    task = _task(None)
    env, (env_key, _, _) = task.environment(), jr.split(key, 3)
    trajectory = task.rollout(policy, key)

    def step(state: Any, action: Any) -> Any:
        state, info = env.step(state, action)
        return state, info.obs

    state, info = env.init(env_key)
    _, later = jax.lax.scan(step, state, trajectory.action)
    return jnp.concatenate([info.obs[None], later]), trajectory.valid


def _observations(policy: Any, key: Any) -> Any:
    seen, valid = _steps(policy, key)
    return np.asarray(seen)[: int(np.sum(valid)) + 1]


@functools.cache
def _plain() -> Any:
    return eqx.filter_jit(_task(None).evaluate)(_population(), _KEYS)


@pytest.mark.parametrize(
    ("descriptor", "by_numpy", "routes"),
    [
        (
            rx.MeanOf(angle_and_place),
            lambda x: [x[1:, 2].mean(), abs(x[1:, 0]).mean()],
            [{"lanes": 5, "chunk": 7}],
        ),
        (
            rx.LastOf(angle_and_place),
            lambda x: [x[-1, 2], abs(x[-1, 0])],
            [{"lanes": 0}],
        ),
        (
            Farthest(60),
            lambda x: [abs(x[:, 0] - x[0, 0]).max(), (len(x) - 1) / 60],
            [{"lanes": 0}, {"lanes": 5, "chunk": 7}],
        ),
    ],
    ids=["mean", "last", "own"],
)
def test_a_descriptor_by_every_route(
    descriptor: Any, by_numpy: Any, routes: Any
) -> None:
    task, population = _task(descriptor), _population()
    values, aux = jax.jit(lambda keys: task.evaluate(population, keys))(_KEYS)
    found = aux["descriptor"]
    assert found.shape == (12, 3, 2) and found.dtype == jnp.result_type(float)
    lengths = np.asarray(aux["length"])
    assert lengths.min() < lengths.max(), "episodes end at different times"
    plain, other = _plain()
    assert same(values, plain) and set(other) == {"length"}
    for route in routes:
        evaluate = eqx.filter_jit(_task(descriptor, **route).evaluate)
        assert close(evaluate(population, _KEYS)[1]["descriptor"], found)
    play = eqx.filter_jit(task)
    for i, rep in ((0, 0), (5, 1), (11, 2)):
        policy, key = _one(population, i), _KEYS[i, rep]
        value, alone = play(policy, key)
        assert float(value) == float(values[i, rep])
        assert close(alone["descriptor"], found[i, rep])
        seen = _observations(policy, key)
        assert len(seen) == lengths[i, rep] + 1
        assert np.allclose(by_numpy(seen), found[i, rep], atol=1e-5)


def test_what_else_a_task_can_do_with_one() -> None:
    task = rx.make(
        "CartPole-v1",
        max_steps=30,
        descriptor=rx.MeanOf(lambda state, info: info.obs[0] > 0),
        normalize_obs=True,
    )
    population = _population()
    stats: Any = task.obs_stats
    bound = stats.bind_population(population, 12)
    evaluation = task.evaluate_and_observe(bound, _KEYS)
    shares = np.asarray(evaluation.aux["descriptor"])
    assert shares.shape == (12, 3, 1) and shares.dtype.kind == "f"
    assert ((0 <= shares) & (shares <= 1)).all() and shares.std() > 0
    assert evaluation.moments is not None


def test_no_step_is_stored() -> None:
    """Memory does not grow with the horizon."""

    def peak(horizon: int) -> int:
        task = reach(horizon, descriptor=rx.MeanOf(lambda state, info: info.obs))
        policies = eqx.filter_vmap(lambda key: rx.MLPPolicy(3, 2, 8, 1, key=key))
        population = policies(jr.split(jr.key(0), 12))
        run = jax.jit(lambda keys: task.evaluate(population, keys))
        memory: Any = run.lower(_KEYS).compile().memory_analysis()
        return memory.temp_size_in_bytes

    assert peak(500) == peak(50)


def test_derivatives_of_a_descriptor() -> None:
    task = reach(descriptor=rx.LastOf(lambda state, info: info.obs))
    assert task.differentiable
    policy = rx.MLPPolicy(*task.space[:2], width=8, depth=1, key=jr.key(0))
    arrays, static = eqx.partition(policy, eqx.is_inexact_array)

    def first(arrays: Any) -> Any:
        return task(eqx.combine(arrays, static), jr.key(1))[1]["descriptor"][0]

    first = jax.jit(first)
    slope = jax.jit(jax.grad(first))(arrays)
    bias = lambda tree: tree.mlp.layers[-1].bias
    step = 1e-2
    ends = [
        first(eqx.tree_at(bias, arrays, bias(arrays).at[0].add(sign * step)))
        for sign in (1, -1)
    ]
    difference = float(ends[0] - ends[1]) / (2 * step)
    assert float(bias(slope)[0]) == pytest.approx(difference, rel=0.02, abs=1e-3)

    def in_lanes(arrays: Any) -> Any:
        stacked = jax.tree.map(lambda x: x[None], arrays)
        population = eqx.combine(stacked, static)
        aux = task.evaluate(population, jr.key(1)[None, None])[1]
        return aux["descriptor"][0, 0, 0]

    assert close(jax.jit(jax.grad(in_lanes))(arrays), slope)


def test_learners_do_without_it() -> None:
    """Streams of a task with a descriptor are those of one without."""
    found = dict[bool, Any]()
    for with_one in (True, False):
        task = _task(Farthest(60) if with_one else None)
        policy = _policy(jr.key(0))
        streams = task.begin_streams(policy, jr.split(jr.key(1), 3))
        found[with_one] = task.advance_streams(policy, streams, 20)
    assert same(found[True], found[False])


def test_bad_descriptors() -> None:
    with pytest.raises(TypeError, match=r"`rx.MeanOf\(angle_and_place\)` or"):
        _task(angle_and_place)
    with pytest.raises(TypeError, match="`descriptor` of .* must be a descriptor"):
        _task(3)
    with pytest.raises(ValueError, match="`descriptor` and `data_fn` cannot both"):
        _task(rx.MeanOf(angle_and_place), data_fn=lambda trajectory: None)
    with pytest.raises(TypeError, match="`function` of `MeanOf` must be a function"):
        rx.MeanOf(3)  # pyright: ignore
    for wrong in (
        lambda state, info: jnp.zeros((2, 2)),
        lambda state, info: "left",
        lambda state, info: np.array(["left"]),
        lambda state, info: jr.key(0),
        lambda state, info: 1j * info.obs[0],
        lambda state, info: (info.obs[0], info.obs[1]),
    ):
        for kind in rx.MeanOf, rx.LastOf:
            with pytest.raises(TypeError, match=f"function of `{kind.__name__}` must"):
                _task(kind(wrong))(_policy(jr.key(0)), jr.key(0))

    class Nothing(rx.AbstractDescriptor):
        def begin(self, env_state: Any, info: Any) -> Any:
            return ()

        def update(self, summary: Any, env_state: Any, info: Any) -> Any:
            return ()

        def end(self, summary: Any, length: Any) -> Any:
            return None

    with pytest.raises(TypeError, match="`Nothing.end` must return a number or a vec"):
        _task(Nothing())(_policy(jr.key(0)), jr.key(0))
    empty = rx.LastOf(lambda env_state, info: jnp.zeros(0))
    with pytest.raises(TypeError, match="a number or a vector of numbers"):
        _task(empty)(_policy(jr.key(0)), jr.key(0))


class Fold(rx.AbstractDescriptor):
    """Folds by two functions."""

    start: Any
    fold: Any

    def begin(self, env_state: Any, info: Any) -> Any:
        return self.start

    def update(self, summary: Any, env_state: Any, info: Any) -> Any:
        return self.fold(summary, info.obs)

    def end(self, summary: Any, length: Any) -> Any:
        return jax.tree.leaves(summary)[0]


@pytest.mark.parametrize(
    ("start", "fold", "expected"),
    [
        (0, lambda count, obs: count + 1, 5.0),
        (0.0, lambda last, obs: 2, 2.0),
        (False, lambda seen, obs: seen | True, 1.0),
        ({"a": jnp.zeros(2)}, lambda tree, obs: {"a": tree["a"] + 1}, 5.0),
        (np.zeros(2), lambda total, obs: total + jnp.ones(2, jnp.float16), 5.0),
    ],
    ids=["count", "number", "flag", "tree", "smaller"],
)
def test_summaries_of_every_kind(start: Any, fold: Any, expected: float) -> None:
    task = reach(5, far=jnp.inf, descriptor=Fold(start, fold))
    policy = rx.MLPPolicy(3, 2, 8, 1, key=jr.key(0))
    alone = task(policy, jr.key(0))[1]["descriptor"]
    assert alone.dtype == jnp.result_type(float) and alone.tolist()[-1] == expected
    many = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, policy)
    found = eqx.filter_jit(task.evaluate)(many, _KEYS[:1])[1]["descriptor"]
    assert np.unique(found).tolist() == [expected]


@pytest.mark.parametrize(
    ("start", "fold", "words"),
    [
        (0, lambda x, obs: x + obs[0], r"float\d+ in place of .*dtype int\d+\. Begin"),
        ({"a": 0.0}, lambda x, obs: {"a": obs}, r"shape \(4,\) .* at `\['a'\]`"),
        ((0.0,), lambda x, obs: [x[0]], "must return a summary .*structure"),
        (0.0, lambda x, obs: "x", "but got 'x' of type str in place of"),
        ("x", lambda x, obs: x, "`Fold.begin` must return a tree of arrays and numb"),
    ],
    ids=["dtype", "shape", "structure", "text", "start"],
)
def test_summaries_that_change(start: Any, fold: Any, words: str) -> None:
    task = rx.GymnaxTask("CartPole-v1", 5, descriptor=Fold(start, fold))
    with pytest.raises(TypeError, match=words):
        task(_policy(jr.key(0)), jr.key(0))
    with pytest.raises(TypeError, match=words):
        task.evaluate(_population(), _KEYS)


def test_arrays_of_a_descriptor() -> None:
    """They are leaves of the task: mapped over, differentiated, and replaced."""

    class Weighted(rx.AbstractDescriptor):
        weight: Any

        def begin(self, env_state: Any, info: Any) -> Any:
            return 0.0

        def update(self, summary: Any, env_state: Any, info: Any) -> Any:
            return summary + self.weight * info.obs[0]

        def end(self, summary: Any, length: Any) -> Any:
            return summary

    policy = rx.MLPPolicy(3, 2, 8, 1, key=jr.key(0))
    population = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, policy)
    task = reach(descriptor=Weighted(jnp.asarray(1.0)))

    def value(weight: Any) -> Any:
        other = dataclasses.replace(task, descriptor=Weighted(weight))
        aux = other.evaluate(population, jr.key(1)[None, None])[1]
        return aux["descriptor"][0, 0, 0]

    once = task(policy, jr.key(1))[1]["descriptor"][0]
    assert close(jax.vmap(value)(jnp.asarray([1.0, 3.0])), jnp.stack([once, 3 * once]))
    assert close(jax.grad(value)(2.0), once)


def test_an_archive_of_episodes() -> None:
    """Elites of an environment are replayed by their descriptors."""

    def reached(env_state: Any, info: Any) -> Any:
        return info.obs[0]

    task = reach(descriptor=rx.MeanOf(reached))
    policy = rx.MLPPolicy(*task.space[:2], width=8, depth=1, key=jr.key(0))
    archive = rx.GridArchive((20,), -2.0, 2.0)
    trainer = rx.QDTrainer(10, task, policy, archive=archive, keep="length")
    state, data = trainer.init_and_train(jr.key(0))
    assert float(data["metrics"]["coverage"][-1]) > 0.2
    assert state.archive.extras["length"].shape == (20,)
    elite = state.elite([0.5])
    assert jax.tree.structure(elite) == jax.tree.structure(policy)
