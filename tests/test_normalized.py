"""Running statistics of observations in evolution."""

import dataclasses
import functools
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax.policies import Moments, no_obs

from .helpers import close, same


def _task(**kws: Any) -> Any:
    return rx.GymnaxTask("CartPole-v1", max_steps=60, normalize_obs=True, **kws)


def _trainer(steps: int, task: Any = None, **kws: Any) -> Any:
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    return rx.EvosaxTrainer(
        steps, "SNES", task or _task(), policy, popsize=6, eval_reps=2, **kws
    )


@functools.cache
def _run() -> Any:
    """A trainer, and its run with what is best after each generation."""
    trainer = _trainer(8, record=lambda s: (s.best_fitness, s.best_stats.count))
    return trainer, *trainer.init_and_train(jr.key(0))


def test_statistics_are_those_of_live_steps() -> None:
    """One generation of policies without normalisation: counted by hand."""
    trainer = _trainer(1, _task(data_fn=lambda t: (t.obs, t.valid)))
    state, data = trainer.init_and_train(jr.key(3))
    obs, valid = (np.asarray(x[0]) for x in data["metrics"]["eval_data"])
    seen = obs[valid]
    assert len(seen) < valid.size, "some episodes end early"
    stats = state.obs_stats
    assert int(stats.count) == len(seen)
    assert np.allclose(stats.mean, seen.mean(0), atol=1e-5)
    assert np.allclose(stats.spread / stats.count, seen.var(0), rtol=1e-4)


def test_statistics_grow_over_generations() -> None:
    _, state, data = _run()
    lengths = data["metrics"]["eval_data"]["length"]
    assert int(state.obs_stats.count) == int(lengths.sum())
    assert set(data["metrics"]["eval_data"]) == {"length"}


def test_lanes_and_devices_change_nothing() -> None:
    expected = _trainer(4, _task(lanes=0)).init_and_train(jr.key(0))
    found = _trainer(4, _task(lanes=5, chunk=3)).init_and_train(jr.key(0))
    assert same(found, expected)
    split = _trainer(4, n_devices=2).init_and_train(jr.key(0))
    assert close(split, expected, rtol=1e-6)


def test_the_policy_plays_alone() -> None:
    trainer, state, _ = _run()
    policy = trainer.params(state)
    assert isinstance(policy, rx.NormalizedPolicy)
    obs = jnp.array([0.1, -0.2, 0.03, 0.4])
    output, _ = policy(obs, policy.initialize(jr.key(0)), jr.key(1))
    expected, _ = policy.policy(state.obs_stats.normalize(obs), None, jr.key(1))
    assert same(output, expected)
    value, aux = rx.GymnaxTask("CartPole-v1", max_steps=60)(policy, jr.key(5))
    assert same((value, aux), _task()(policy, jr.key(5)))
    best = state.best_params
    assert not same(best.stats.count, policy.stats.count) or int(state.step) == 1


def test_the_best_plays_as_it_did() -> None:
    """It keeps the statistics of the generation that it scored in."""
    _, state, data = _run()
    fitness, counts = data["record"]
    first = int(np.argmax(np.asarray(fitness) == float(state.best_fitness)))
    lengths = data["metrics"]["eval_data"]["length"].sum((1, 2))
    assert int(state.best_stats.count) == int(lengths[:first].sum())


def test_it_is_in_checkpoints(tmp_path: pathlib.Path) -> None:
    def run(steps: int, folder: str) -> Any:
        saved = rx.Checkpointer(tmp_path / folder)
        return _trainer(steps, callbacks=saved).init_and_train_(jr.key(0))

    run(4, "parts")
    state = run(8, "parts")
    assert same(state, run(8, "whole"))
    # A whole scan is another program, of which a last bit differed in two processes.
    assert close(state, _run()[1], rtol=1e-6, atol=1e-6)


def test_evolve_and_seeds_in_parallel() -> None:
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    policy, _ = rx.evolve(
        policy,
        _task(),
        jr.key(0),
        strategy="SNES",
        steps=2,
        popsize=4,
        use_scan=False,
    )
    assert isinstance(policy, rx.NormalizedPolicy)
    trainer = _trainer(2)
    states = jax.vmap(trainer.init_and_train_)(jr.split(jr.key(0), 2))
    params = eqx.filter_vmap(trainer.params)(states)
    assert params.stats.mean.shape == (2, 4)


def test_merging_is_the_whole() -> None:
    data = 1e3 + jr.normal(jr.key(0), (10, 50, 3)) * jnp.array([1.0, 10.0, 0.3])
    stats = no_obs(3)
    for part in data:
        offset = part - part[0]
        sums = offset.sum(0)[None], (offset**2).sum(0)[None]
        moments = Moments(jnp.asarray([50.0]), part[:1], *sums)
        stats = stats.absorb(moments)
    flat = np.asarray(data, np.float64).reshape(-1, 3)
    assert np.allclose(stats.mean, flat.mean(0), rtol=1e-6)
    assert np.allclose(stats.spread / 500, flat.var(0), rtol=0.01)
    bad = Moments(jnp.ones(2), *[jnp.full((2, 3), jnp.nan)] * 3)
    assert same(stats.absorb(bad), stats)


def test_sums_of_collected_observations() -> None:
    """What a learner has collected counts as much as episodes do."""
    obs = 5 + jr.normal(jr.key(0), (40, 3, 2))
    stats = no_obs(2).absorb(Moments.of(obs))
    one = Moments.before(obs[0, 0])
    for row in obs[:, 0]:
        one = one.with_obs(row)
    first = no_obs(2).absorb(Moments.of(obs[:, 0]))
    assert close(no_obs(2).absorb(one), first)
    rows = np.asarray(obs).reshape(-1, 2)
    assert int(stats.count) == 120
    assert np.allclose(stats.mean, rows.mean(0), atol=1e-5)
    assert np.allclose(stats.spread / 120, rows.var(0), rtol=1e-4)


@pytest.mark.parametrize("kws", [{}, {"lanes": 0}, {"data_fn": lambda t: t.valid}])
def test_aux_is_the_tasks_own(kws: Any) -> None:
    """The sums over observations are beside the aux, never in it."""
    task = _task(**kws)
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    population = eqx.filter_vmap(lambda _: policy)(jnp.arange(3))
    bound, keys = task.obs_stats.bind_population(population, 3), jr.split(jr.key(1), 3)
    keys = keys[:, None]
    values, aux = eqx.filter_jit(task.evaluate)(bound, keys)
    observed = eqx.filter_jit(task.evaluate_and_observe)(bound, keys)
    assert same((observed.values, observed.aux), (values, aux))
    lengths = aux.sum(-1) if "data_fn" in kws else aux["length"]
    assert same(observed.moments.count, lengths.astype(float))
    assert observed.moments.total.shape == (3, 1, 4)
    if kws:
        return
    batches = rx.Minibatch(task, 2)
    assert batches.obs_stats is not None
    inner = eqx.filter_jit(batches.evaluate_and_observe)(bound, keys, jnp.ones((4, 1)))
    assert inner.values.shape == (3, 1) and inner.moments.total.shape == (3, 1, 4)


def test_other_observations_than_the_statistics_are_of() -> None:
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    with pytest.raises(ValueError, match=r"statistics of shape \(3,\).*`flatten_obs=T"):
        rx.GymnaxTask("CartPole-v1")(no_obs(3).bind(policy), jr.key(0))


def test_going_on_from_a_normalized_policy() -> None:
    trainer, state, _ = _run()
    policy = trainer.params(state)
    again = rx.EvosaxTrainer(2, "SNES", _task(), policy, popsize=4)
    after = again.init_and_train_(jr.key(1))
    assert isinstance(again.params(after).policy, rx.MLPPolicy)
    assert after.obs_stats.count > policy.stats.count
    assert same(again.initialize(jr.key(0)).obs_stats, policy.stats)
    replaced = dataclasses.replace(again, popsize=6, es_params=None)
    assert same(replaced.initialize(jr.key(0)).obs_stats, policy.stats)
    assert replaced.popsize == 6
    with pytest.raises(ValueError, match="`params_like` is a `NormalizedPolicy`"):
        rx.EvosaxTrainer(2, "SNES", rx.GymnaxTask("CartPole-v1"), policy)


def test_refused_elsewhere() -> None:
    with pytest.raises(ValueError, match="generations of evolution only"):
        rx.OptaxTrainer(2, "sgd", lambda key: jnp.ones(2), _task())
