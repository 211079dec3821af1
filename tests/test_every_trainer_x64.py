"""The laws of `test_every_trainer.py` on numbers, with float64.

Refusals and what is compiled again are not repeated: they say nothing of numbers.
"""

from collections.abc import Generator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import realax as rx

from .test_every_trainer import (
    make,
    test_a_checkpoint_goes_on_exactly as test_a_checkpoint_goes_on_exactly,
    test_hypergradient as test_hypergradient,
    test_observed_is_bare as test_observed_is_bare,
    test_record as test_record,
    test_two_halves_are_the_whole as test_two_halves_are_the_whole,
    test_what_a_state_is as test_what_a_state_is,
)
from .trainers import TRAINERS, Row


@pytest.fixture(autouse=True)
def float64(request: pytest.FixtureRequest) -> Generator[None]:
    row: Any = getattr(request.node, "callspec", None)
    row = None if row is None else row.params.get("row")
    types_alone = request.function is test_numbers_are_float64
    if isinstance(row, Row) and not (row.float64 or types_alone):
        pytest.skip("shares its loop with a row that is tested")
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("row", TRAINERS, ids=lambda row: row.name)
def test_numbers_are_float64(row: Row) -> None:
    state, record = eqx.filter_eval_shape(make(row).init_and_train, jr.key(1))
    for tree in state, record["metrics"]:
        types = {x.dtype for x in jax.tree.leaves(tree)}
        floats = {x for x in types if jnp.issubdtype(x, jnp.floating)}
        assert floats == {jnp.dtype("float64")}


def test_brax_in_lanes() -> None:
    """Its own numbers are of less precision than those of a lane."""
    task = rx.BraxTask("fast", 6, lanes=3)
    policy = rx.MLPPolicy(*task.space[:2], width=2, depth=1, key=jr.key(0))
    trainer = rx.EvosaxTrainer(2, "SNES", task, policy, popsize=4, eval_reps=2)
    state, record = trainer.init_and_train(jr.key(0))
    assert state.best_fitness.dtype == jnp.float64
    assert jnp.all(record["metrics"]["eval_data"]["length"] == 6)


@pytest.mark.parametrize("strategy", ["CMAAnchoredLES", "SV_CMA_ES", "LES", "SimpleGA"])
def test_strategies(strategy: str) -> None:
    row = TRAINERS[0]
    trainer = rx.EvosaxTrainer(3, strategy, row.make(3).task, jnp.ones(3), popsize=8)
    state = trainer.init_and_train_(jr.key(0))
    assert state.best_fitness.dtype == jnp.float64


@pytest.mark.parametrize(
    ("precision", "recurrent", "lanes"),
    [  # each pair of values at least once
        (jnp.bfloat16, True, 0),
        (jnp.bfloat16, False, 3),
        (jnp.float16, True, 3),
        (jnp.float16, False, 0),
        (jnp.float32, True, 3),
        (jnp.float32, False, 0),
    ],
)
def test_policies_of_less_precision(
    precision: Any, recurrent: bool, lanes: int
) -> None:
    task = rx.GymnaxTask("CartPole-v1", 20, lanes=lanes, normalize_obs=lanes == 0)
    policy: Any = (
        rx.RNNPolicy(4, 2, 4, key=jr.key(0))
        if recurrent
        else rx.MLPPolicy(4, 2, 4, 1, key=jr.key(0))
    )
    to = lambda x: x.astype(precision) if eqx.is_inexact_array(x) else x
    trainer = rx.EvosaxTrainer(2, "SNES", task, jax.tree.map(to, policy), popsize=4)
    state, data = trainer.init_and_train(jr.key(0))
    evolved = getattr(trainer.params(state), "policy", trainer.params(state))
    arrays = jax.tree.leaves(eqx.filter(evolved, eqx.is_inexact_array))
    assert {x.dtype for x in arrays} == {jnp.dtype(precision)}
    assert jnp.all(data["metrics"]["fitness"] >= 1)
