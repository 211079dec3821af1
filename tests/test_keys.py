"""Quick keys draw the numbers of `jax.random`, in programs without a loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from realax._keys import fold_in, quick, split


KEY = jr.key(3)
DRAWS: dict[str, Callable[[Any], Any]] = {
    "bits 8": lambda key: jr.bits(key, (7, 5), jnp.uint8),
    "bits 16": lambda key: jr.bits(key, (7, 5), jnp.uint16),
    "bits 32": lambda key: jr.bits(key, (7, 5), jnp.uint32),
    "uniform": lambda key: jr.uniform(key, (3,)),
    "one number": jr.normal,
    "no number": lambda key: jr.normal(key, (0, 3)),
    "normal": lambda key: jr.normal(key, (4, 2)),
    "half": lambda key: jr.normal(key, (5,), jnp.bfloat16),
    "integers": lambda key: jr.randint(key, (9,), 0, 1000),
    "permutation": lambda key: jr.permutation(key, 11),
    "categorical": lambda key: jr.categorical(key, jnp.arange(5.0), shape=(6,)),
}


def same_keys(some: Any, others: Any) -> None:
    assert some.dtype == others.dtype
    np.testing.assert_array_equal(jr.key_data(some), jr.key_data(others))


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_numbers(name: str) -> None:
    draw = DRAWS[name]
    np.testing.assert_array_equal(draw(quick(KEY)), draw(KEY))
    keys = jr.split(KEY, 4)
    found = jax.jit(jax.vmap(lambda key: draw(quick(key))))(keys)
    np.testing.assert_array_equal(found, jax.jit(jax.vmap(draw))(keys))


def test_the_same_numbers_of_64_bits() -> None:
    with jax.enable_x64(True):
        found = jr.bits(quick(KEY), (7, 5), jnp.uint64)
        np.testing.assert_array_equal(found, jr.bits(KEY, (7, 5), jnp.uint64))
        normal = jr.normal(quick(KEY), (4,), jnp.float64)
        np.testing.assert_array_equal(normal, jr.normal(KEY, (4,), jnp.float64))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    data=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([1, 2, 5, (2, 3), ()]),
)
def test_the_same_keys(seed: int, data: int, shape: Any) -> None:
    key, number = jr.key(seed), jnp.uint32(data)
    same_keys(fold_in(key, number), jr.fold_in(key, number))
    same_keys(split(key, shape), jr.split(key, shape))


def test_the_same_keys_side_by_side() -> None:
    keys, numbers = jr.split(KEY, 6), jnp.arange(6)
    found = jax.jit(jax.vmap(lambda key, n: split(fold_in(key, n), 3)))(keys, numbers)
    same_keys(
        found, jax.vmap(lambda key, n: jr.split(jr.fold_in(key, n), 3))(keys, numbers)
    )
    same_keys(
        jax.vmap(fold_in, (None, 0))(KEY, numbers),
        jax.vmap(jr.fold_in, (None, 0))(KEY, numbers),
    )


def test_a_number_of_any_sign_and_size() -> None:
    for number in (0, 2**32 - 1, np.int8(-3), jnp.int32(-7)):
        same_keys(fold_in(KEY, number), jr.fold_in(KEY, number))


def test_other_keys_stay() -> None:
    for key in (jr.key(0, impl="rbg"), jr.PRNGKey(0)):
        assert quick(key) is key
        found, expected = fold_in(key, 3), jr.fold_in(key, 3)
        assert found.dtype == expected.dtype and jnp.all(found == expected)
        assert jnp.all(split(key) == jr.split(key))
    with jax.threefry_partitionable(False):
        assert quick(KEY) is KEY


def test_no_loop_is_compiled() -> None:
    """Or else jax has its own generator without one, and these keys can go."""

    def whiles(draw: Callable[[Any], Any]) -> int:
        text = jax.jit(lambda key: draw(jr.fold_in(key, 1))).lower(KEY).as_text()
        return text.count("stablehlo.while")

    loops = whiles(jr.normal)
    program = jax.jit(lambda key: jr.normal(quick(fold_in(key, 1)))).lower(KEY)
    on_cpu = jax.default_backend() == "cpu"
    assert program.as_text().count("stablehlo.while") == (0 if on_cpu else loops)
    assert loops == (2 if on_cpu else 0)


def test_functions_of_drawn_numbers_have_derivatives() -> None:
    def loss(key: Any, scale: Any) -> Any:
        return jnp.sum(scale * jr.normal(key, (3,)) ** 2)

    for derivative in (jax.grad, jax.hessian, jax.jacfwd):
        found = derivative(lambda scale: loss(quick(KEY), scale**2))(2.0)
        expected = derivative(lambda scale: loss(KEY, scale**2))(2.0)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
