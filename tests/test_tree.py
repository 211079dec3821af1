"""Flat vectors of trees, keywords compared by value, and finite numbers."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import realax as rx
from realax._finite import stays_finite
from realax._frozen import freeze
from realax._template import Template
from realax._trees import strong

from .helpers import same


DTYPES = st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32, jnp.bool_])
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
LEAVES = st.tuples(SHAPES, DTYPES).map(lambda pair: jnp.ones(*pair))
OTHERS = st.sampled_from(["name", None, 3, 2.5, jnp.tanh])
TREES = st.recursive(
    LEAVES | OTHERS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(TREES, st.sampled_from([(), (2,), (2, 3)]))
def test_a_tree_survives_flattening(tree: Any, batch: tuple[int, ...]) -> None:
    tree = [tree, jnp.arange(3.0)]
    template = Template(tree)
    flat, rest = template.flatten(tree)
    assert flat.shape == (template.size,) and flat.dtype == jnp.float32
    assert same(
        *(eqx.filter(t, eqx.is_array) for t in (template.unflatten(flat, rest), tree))
    )
    assert jax.tree.structure(template.unflatten(flat, rest)) == jax.tree.structure(
        tree
    )
    wide, wide_rest = jax.tree.map(
        lambda x: jnp.broadcast_to(x, batch + x.shape), (flat, rest)
    )
    for leaf, wide_leaf in zip(
        jax.tree.leaves(eqx.filter(tree, eqx.is_array)),
        jax.tree.leaves(eqx.filter(template.unflatten(wide, wide_rest), eqx.is_array)),
        strict=True,
    ):
        assert wide_leaf.shape == batch + leaf.shape
        assert wide_leaf.dtype == leaf.dtype


def test_equal_models_have_equal_templates() -> None:
    one, two = (rx.MLPPolicy(4, 2, 8, 1, key=jr.key(i)) for i in range(2))
    other = rx.MLPPolicy(4, 2, 9, 1, key=jr.key(0))
    assert Template(one) == Template(two)
    assert hash(Template(one)) == hash(Template(two))
    assert Template(one) != Template(other)


def test_numpy_is_accepted() -> None:
    template = Template({"w": np.ones((2, 2), np.float32), "n": np.arange(3)})
    assert template.size == 4


@pytest.mark.parametrize(
    ("tree", "error", "words"),
    [
        ({"n": jnp.arange(3)}, ValueError, "at least one floating-point array"),
        ([1.0, 2.0], ValueError, r"jnp\.zeros"),
        (jnp.zeros(2, jnp.complex64), TypeError, "two arrays"),
        ([jnp.zeros(2), bytearray(b"x")], TypeError, "hashable"),
    ],
)
def test_trees_that_cannot_be_trained(tree: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        Template(tree)


def test_strong_dtypes() -> None:
    tree = strong({"a": 1.0, "b": jnp.asarray(2), "c": jnp.zeros(2, jnp.float16)})
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(tree))
    assert tree["c"].dtype == jnp.float16


def test_keywords_compare_by_value() -> None:
    kws = {"b": [1, 2], "a": {"x": 1.5, "y": (1, "z")}}
    assert freeze(kws) == freeze(dict(reversed(kws.items())))
    assert hash(freeze(kws)) == hash(freeze(kws))
    assert freeze(kws).thaw() == kws
    assert freeze(kws) != freeze({**kws, "b": [1, 3]})
    array = np.zeros(3)
    assert freeze({"w": array}) == freeze({"w": array})
    assert freeze({"w": array}) != freeze({"w": array.copy()})
    assert freeze(None) == freeze({})
    assert freeze(freeze(kws)) == freeze(kws)


def test_keywords_compare_by_type() -> None:
    twos = [2, 2.0, "2", True, np.int8(2), [2], (2,), (2.0,), [2.0], {"x": 2}]
    ones = [1, 1.0, True, (1,), (1.0,), (True,)]
    for values in twos, ones:
        frozen = [freeze({"n": value}) for value in values]
        # A scalar array is frozen as the number that it holds.
        assert len(set(frozen)) == len(values) - sum(
            isinstance(value, np.generic) for value in values
        )
        for one, value in zip(frozen, values, strict=True):
            assert freeze({"n": value}) == one
            assert one.thaw()["n"] == value
            assert type(one.thaw()["n"]) in (type(value), int)


@pytest.mark.parametrize("make", [jnp.full, np.full])
def test_arrays_of_one_number_compare_by_value(make: Any) -> None:
    array = make((1,), 0.5, jnp.float16)
    frozen = freeze({"w": array})
    thawed = frozen.thaw()["w"]
    assert same(thawed, array) and thawed.shape == (1,)
    assert frozen == freeze({"w": make((1,), 0.5, jnp.float16)})
    for other in (
        make((1,), 0.25, jnp.float16),
        make((1,), 0.5, jnp.float32),
        make((1, 1), 0.5, jnp.float16),
        0.5,
    ):
        assert frozen != freeze({"w": other})
    assert freeze({"k": jr.key(0)}).thaw()["k"].shape == ()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, -1.0, 3e38, -3e38, jnp.inf, jnp.nan]), min_size=4)
)
def test_numbers_that_stay_finite(numbers: list[float]) -> None:
    # Sums of arrays, of which two have the same shape, may overflow or cancel.
    after = (jnp.array(numbers[:2]), jnp.array(numbers[2:4]), jnp.array(numbers[4:]), 3)
    after = jax.tree.map(jnp.asarray, after)
    finite = bool(np.all(np.isfinite(numbers)))
    assert bool(stays_finite(jax.tree.map(jnp.zeros_like, after), after)) == finite
    assert stays_finite(after, after), "numbers that were not finite before are ignored"
