"""Distributions of actions, against closed forms and numerical integration."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.flatten_util import ravel_pytree
from scipy import integrate, special, stats

import realax as rx

from .helpers import close, same


INF = float("inf")
ROWS = [[0.3, -1.0, 2.0, -INF], [1.0, -INF, -INF, -INF], [-30.0, 0.0, 90.0, 0.5]]
# Each: the parameters as lists, and what makes a distribution of them.
KINDS: dict[str, tuple[Any, Callable[..., Any]]] = {
    "choice": ([ROWS[0]], rx.Categorical),
    "choices": ([ROWS], rx.Categorical),
    "number": ([0.4, -0.7], rx.Normal),
    "numbers": ([[0.4, -2.0, 0.0], [0.2, -1.0, 0.5]], rx.Normal),
    "squashed": ([[0.4, -1.0], [-0.3, 0.2], [-1.0, 0.0], 2.0], rx.TanhNormal),
    "joint": (
        [ROWS[0], [0.4, -2.0], [0.3, -1.0]],
        lambda logits, mean, log_std: rx.Joint(
            {
                "jump": rx.Categorical(logits),
                "move": (
                    rx.Normal(mean, log_std),
                    rx.Joint([rx.TanhNormal(mean, log_std, -2.0, jnp.ones(2))]),
                ),
            }
        ),
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def _params(kind: str, dtype: Any = None) -> list[jax.Array]:
    return [jnp.asarray(one, dtype or float) for one in KINDS[kind][0]]


def _make(kind: str, dtype: Any = None) -> Any:
    return KINDS[kind][1](*_params(kind, dtype))


def _both(distribution: Any, key: Any) -> Any:
    return distribution.sample_and_log_prob(key)


def _draw(distribution: Any, count: int, seed: int = 0) -> Any:
    keys = jr.split(jr.key(seed), count)
    actions, log_probs = jax.jit(jax.vmap(functools.partial(_both, distribution)))(keys)
    return jax.tree.map(np.asarray, actions), np.asarray(log_probs)


def _log_probs(distribution: Any, actions: Any) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(distribution.log_prob))(actions))


# Laws of all of them.


@each_kind
def test_what_is_drawn(kind: str) -> None:
    """The same action with and without its log-probability, eager and compiled."""
    distribution, key = _make(kind), jr.key(3)
    action, log_prob = distribution.sample_and_log_prob(key)
    assert same(distribution.sample(key), action)
    assert log_prob.shape == distribution.entropy().shape == ()
    assert close(distribution.log_prob(action), log_prob)
    assert close(jax.jit(_both)(distribution, key), (action, log_prob))
    mode = distribution.mode()
    assert jax.tree.structure(mode) == jax.tree.structure(action)
    for one, other in zip(jax.tree.leaves(mode), jax.tree.leaves(action), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert not (one.weak_type or other.weak_type), "a scan carries it"
    assert np.isfinite(distribution.log_prob(mode))


@each_kind
def test_batches_by_vmap(kind: str) -> None:
    params = [jnp.stack([p, p * 1.5, p / 2]) for p in _params(kind)]
    keys = jr.split(jr.key(0), 3)

    def all_of(params: Any, key: Any) -> Any:
        distribution = KINDS[kind][1](*params)
        action, log_prob = distribution.sample_and_log_prob(key)
        again = distribution.log_prob(action)
        return action, log_prob, again, distribution.entropy(), distribution.mode()

    found = jax.jit(jax.vmap(all_of))(params, keys)
    for i in range(3):
        expected = all_of([p[i] for p in params], keys[i])
        assert close(jax.tree.map(lambda x, i=i: x[i], found), expected)
    batch = jax.vmap(KINDS[kind][1])(*params)  # a distribution crosses vmap and jit
    assert close(jax.jit(jax.vmap(_both))(batch, keys), found[:2])


@each_kind
def test_gradients(kind: str) -> None:
    """Against differences of values in float64, forward and reverse, twice."""
    with jax.enable_x64(True):
        params, make = _params(kind, jnp.float64), KINDS[kind][1]
        flat, unravel = ravel_pytree(params)
        finite = jnp.isfinite(flat)
        action = make(*params).sample(jr.key(1))

        def numbers(moved: Any) -> Any:
            made = make(*unravel(jnp.where(finite, flat + moved, flat)))
            _, drawn = _both(made, jr.key(2))
            return jnp.stack([made.log_prob(action), made.entropy(), drawn])

        def differences(function: Any) -> Any:
            steps = 1e-6 * jnp.eye(flat.size)
            up, down = jax.vmap(function)(steps), jax.vmap(function)(-steps)
            return jnp.moveaxis((up - down) / 2e-6, 0, -1)

        @jax.jit
        def compared(zero: Any) -> Any:
            ways = jax.jacfwd, jax.jacrev
            first, second = differences(numbers), differences(jax.jacrev(numbers))
            return [
                *((way(numbers)(zero), first) for way in ways),
                *((b(a(numbers))(zero), second) for a in ways for b in ways),
            ]

        for found, expected in compared(jnp.zeros(flat.size)):
            assert jnp.max(jnp.abs(expected)) > 0.1
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@each_kind
def test_narrow_and_wide_numbers(kind: str) -> None:
    """Narrow parameters are computed with in float32, wide ones in their own."""
    narrow = _make(kind, jnp.bfloat16)
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)
    key = jr.key(0)
    for name in ("entropy", "mode"):
        assert same(getattr(narrow, name)(), getattr(rounded, name)())
    assert same(_both(narrow, key), _both(rounded, key))
    assert _both(narrow, key)[1].dtype == jnp.float32
    action = rounded.sample(key)
    with jax.enable_x64(True):
        wide = _make(kind, jnp.float64)
        assert wide.entropy().dtype == jnp.float64
        assert _both(wide, key)[1].dtype == jnp.float64
        for leaf in jax.tree.leaves((wide.sample(key), wide.mode())):
            assert leaf.dtype in (jnp.int32, jnp.float64)
        exact = jax.tree.map(lambda x: x.astype(jnp.float64), rounded)
        expected = float(exact.log_prob(action)), float(exact.entropy())
    assert np.allclose(rounded.log_prob(action), expected[0], rtol=1e-5)
    assert np.allclose(rounded.entropy(), expected[1], rtol=1e-5, atol=1e-5)


@each_kind
def test_entropy_is_the_mean_surprise(kind: str) -> None:
    distribution = _make(kind)
    _, log_probs = _draw(distribution, 20_000)
    error = log_probs.std() / np.sqrt(len(log_probs))
    assert abs(-log_probs.mean() - distribution.entropy()) < 4 * error + 1e-5


# Choices.

_logit = st.floats(-100, 100, width=32, allow_subnormal=False) | st.just(-INF)
_rows = st.lists(_logit, min_size=4, max_size=4).filter(lambda row: max(row) > -INF)


@jax.jit
def _choice(logits: jax.Array) -> Any:
    """All log-probabilities, the entropy, the mode, a sample, and the gradients."""
    distribution = rx.Categorical(logits)
    log_probs, grads = jax.vmap(
        lambda action: jax.value_and_grad(lambda d: d.log_prob(action))(distribution)
    )(jnp.arange(4))
    entropy, grad = jax.value_and_grad(lambda d: d.entropy())(distribution)
    sample = jax.vmap(distribution.sample)(jr.split(jr.key(0), 20))
    return log_probs, entropy, distribution.mode(), sample, (grads, grad)


@given(row=_rows)
@settings(max_examples=200, deadline=None)
def test_one_choice(row: list[float]) -> None:
    log_probs, entropy, mode, sample, grads = _choice(jnp.asarray(row))
    exact = special.log_softmax(np.asarray(row, np.float64))
    assert np.allclose(log_probs, exact, rtol=1e-5, atol=1e-5)
    assert np.isclose(np.exp(log_probs).sum(), 1, atol=1e-6)
    assert np.isclose(entropy, stats.entropy(np.exp(exact)), atol=1e-5)
    assert log_probs[mode] == log_probs.max() and mode == np.argmax(row)
    assert np.all(np.isfinite(log_probs[sample])), "none is impossible"
    for grad in jax.tree.leaves(grads):
        assert np.all(np.isfinite(grad))
        assert np.all(grad[..., np.isinf(row)] == 0)


def test_several_choices_are_independent() -> None:
    distribution = rx.Categorical(jnp.asarray(ROWS))
    actions = np.asarray(list(itertools.product(range(4), repeat=3)), np.int32)
    log_probs = _log_probs(distribution, actions)
    exact = special.log_softmax(ROWS, axis=-1)[range(3), actions].sum(-1)
    assert np.allclose(log_probs, exact, rtol=1e-5)
    assert np.isclose(np.exp(log_probs).sum(), 1, atol=1e-6)
    assert same(distribution.mode(), jnp.asarray([2, 0, 2], jnp.int32))
    entropy = stats.entropy(special.softmax(ROWS, axis=-1), axis=-1).sum()
    assert np.isclose(distribution.entropy(), entropy, atol=1e-6)


def test_what_is_no_choice_has_probability_zero() -> None:
    distribution = rx.Categorical(jnp.asarray(ROWS[0]))
    for action in (3, -1, 4):
        by_logits = jax.value_and_grad(lambda d, a: d.log_prob(a))
        value, grad = by_logits(distribution, jnp.asarray(action))
        assert value == -INF and not np.any(grad.logits)


def test_bad_logits_stay_visible() -> None:
    for logits in ([jnp.nan, 0.0, 1.0], [-INF, -INF, -INF]):
        distribution = rx.Categorical(jnp.asarray(logits))
        assert np.isnan(distribution.log_prob(jnp.asarray(1)))
        assert np.isnan(distribution.entropy())


@pytest.mark.parametrize("choices", [2, 5, 40])
def test_choices_are_as_frequent_as_they_are_probable(choices: int) -> None:
    logits = jr.normal(jr.key(choices), (3, choices)).at[1, choices // 2].set(-INF)
    exact = special.softmax(np.asarray(logits, np.float64), axis=-1)
    actions, _ = _draw(rx.Categorical(logits), 30_000)
    assert actions.dtype == np.int32
    for row, drawn in zip(exact, actions.T, strict=True):
        found = np.bincount(drawn, minlength=choices)
        assert np.all(found[row == 0] == 0)
        if np.sum(row > 0) > 1:
            expected = row[row > 0] * len(drawn)
            assert stats.chisquare(found[row > 0], expected).pvalue > 1e-3
    correlation = np.corrcoef(actions[:, 0], actions[:, 2])[0, 1]
    assert abs(correlation) < 0.02, "the rows are independent"


def test_padding_is_never_drawn() -> None:
    """Not even by the largest uniform number, nor where a parallel sum is rounded."""
    rows, top = 2**22, 1 - 2.0**-22
    logits = jnp.broadcast_to(jnp.asarray([-INF, 0.1, -2.3, -INF]), (rows, 4))
    keys = [jr.key(seed) for seed in range(4)]
    assert any(jr.uniform(key, (rows,)).max() > top for key in keys)
    sample = jax.jit(lambda logits, key: rx.Categorical(logits).sample(key))
    for key in keys:
        assert set(np.unique(sample(logits, key))) == {1, 2}
    row = jr.normal(jr.key(1), (1000,))
    row = jnp.where(jr.bernoulli(jr.key(2), 0.1, (1000,)), row, -INF)
    actions, log_probs = _draw(rx.Categorical(row), 20_000)
    assert np.all(np.isfinite(log_probs)) and np.all(np.isfinite(row[actions]))


# Numbers.


@given(
    mean=st.floats(-50, 50, width=32),
    log_std=st.floats(-5, 3, width=32),
    away=st.floats(-6, 6),
)
@settings(max_examples=100, deadline=None)
def test_normal(mean: float, log_std: float, away: float) -> None:
    with jax.enable_x64(True):
        distribution = rx.Normal(jnp.asarray([mean, 1.0]), jnp.asarray([log_std, 0.0]))
        exact = stats.norm([mean, 1.0], np.exp([log_std, 0.0]))
        action = jnp.asarray([mean + away * np.exp(log_std), 0.5])
        log_prob = distribution.log_prob(action)
        assert np.isclose(log_prob, exact.logpdf(action).sum(), rtol=1e-9)
        assert np.isclose(distribution.entropy(), exact.entropy().sum(), rtol=1e-9)
        assert same(distribution.mode(), distribution.mean)
        assert distribution.log_prob(distribution.mode()) >= log_prob


def test_normal_samples() -> None:
    mean, log_std = jnp.asarray([2.0, -1.0]), jnp.asarray([0.5, -3.0])
    actions, _ = _draw(rx.Normal(mean, log_std), 20_000)
    exact = stats.norm(mean, np.exp(log_std))
    assert np.all(stats.kstest((actions - mean) / exact.std(), "norm").pvalue > 1e-3)
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.03, "the components are independent"


def test_normal_samples_follow_their_parameters() -> None:
    mean, log_std, key = jnp.asarray(2.0), jnp.asarray(0.5), jr.key(0)
    sample = lambda m, s: rx.Normal(m, s).sample(key)
    by_mean, by_log_std = jax.grad(sample, (0, 1))(mean, log_std)
    assert by_mean == 1
    assert np.isclose(by_log_std, sample(mean, log_std) - mean)


def _density(distribution: Any, low: float, width: float) -> tuple[Any, Any, Any]:
    """Points inside the bounds, their log-densities, and weights to integrate by.

    The points are equally spaced before a logistic function, since a wide density has
    its mass next to the bounds.
    """
    spaced = np.linspace(-36, 36, 6001)
    points = low + width * special.expit(spaced)
    slopes = width * special.expit(spaced) * special.expit(-spaced)
    log_probs = _log_probs(distribution, jnp.asarray(points))
    return points, log_probs, slopes * (spaced[1] - spaced[0])


SHAPES = [(0.0, 0.05), (0.7, 1.0), (-2.0, 0.5), (0.3, 2.7)]


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 0.01), (-3.0, 500.0)])
@pytest.mark.parametrize("mean, std", SHAPES)
def test_squashed_density(mean: float, std: float, low: float, high: float) -> None:
    with jax.enable_x64(True):
        distribution = rx.TanhNormal(jnp.asarray(mean), jnp.log(std), low, high)
        points, log_probs, weights = _density(distribution, low, high - low)
        central = slice(2000, 4000)
        values = special.logit((points[central] - low) / (high - low)) / 2
        slopes = (high - low) / 2 / np.cosh(values) ** 2
        exact = stats.norm(mean, std).logpdf(values) - np.log(slopes)
        assert np.allclose(log_probs[central], exact)
        mass = np.exp(log_probs) * weights
        assert np.isclose(mass.sum(), 1, atol=1e-6)
        below = mass[points <= float(distribution.mode())].sum()
        assert np.isclose(below, 0.5, atol=0.05), "its mode is the median"
        surprise = -(mass * log_probs).sum()
        assert abs(distribution.entropy() - surprise) < (1e-6 if std <= 1 else 1e-4)


@pytest.mark.parametrize(
    "std, tolerance", [(0.01, 1e-6), (1.0, 1e-6), (2.7, 1e-4), (7.4, 0.02)]
)
@pytest.mark.parametrize("mean", [0.0, 0.5, 3.0])
def test_squashed_entropy(mean: float, std: float, tolerance: float) -> None:
    """It is as close to the integral as its docstring says."""

    def integrand(z: float) -> float:
        value = mean + std * z
        slope = np.log(4) - 2 * np.logaddexp(value, -value)
        return stats.norm.pdf(z) * (slope + np.log(3.0))

    bend = np.clip(-mean / std, -12, 12)
    left = integrate.quad(integrand, -12, bend, epsabs=1e-10, limit=500)[0]
    right = integrate.quad(integrand, bend, 12, epsabs=1e-10, limit=500)[0]
    with jax.enable_x64(True):
        squashed = rx.TanhNormal(jnp.asarray(mean), jnp.log(std), -2.0, 4.0)
        found = float(squashed.entropy())
    assert abs(found - stats.norm(0, std).entropy() - left - right) < tolerance


def test_squashed_samples() -> None:
    mean, log_std = jnp.asarray([0.5, -1.0]), jnp.asarray([0.0, 0.5])
    low, high = np.asarray([-2.0, 0.0]), 3.0
    actions, log_probs = _draw(rx.TanhNormal(mean, log_std, low, high), 20_000)
    assert np.all((low <= actions) & (actions <= high))
    values = np.arctanh((2 * actions - high - low) / (high - low))
    noise = (values - mean) / np.exp(log_std)
    assert np.all(stats.kstest(noise, "norm").pvalue > 1e-3)
    again = _log_probs(rx.TanhNormal(mean, log_std, low, high), actions)
    central = np.all((low + 0.05 < actions) & (actions < high - 0.05), axis=-1)
    assert np.allclose(log_probs[central], again[central], atol=1e-4)


@pytest.mark.parametrize("mean", [-60.0, -9.0, 9.0, 60.0])
@pytest.mark.parametrize("log_std", [-20.0, -1.0, 2.0])
def test_squashed_next_to_its_bounds(mean: float, log_std: float) -> None:
    """Samples stay inside and keep their exact log-probability; nothing is infinite."""
    low, high, key = -0.1, 0.3, jr.key(1)  # bounds that float32 rounds
    make = lambda m, s: rx.TanhNormal(m, s, low, high)
    params = jnp.asarray(mean), jnp.asarray(log_std)
    action, log_prob = make(*params).sample_and_log_prob(key)
    assert np.float32(low) <= action <= np.float32(high)
    noise = float(jr.normal(key))
    value = mean + np.exp(log_std) * noise
    slope = np.log(4) - 2 * np.logaddexp(value, -value) + np.log((high - low) / 2)
    exact = stats.norm.logpdf(noise) - log_std - slope
    assert np.isclose(log_prob, exact, rtol=1e-5)
    by_all = jax.value_and_grad(lambda m, s, a: make(m, s).log_prob(a), (0, 1, 2))
    for one in (low, high, action, -1.0, 5.0):
        for number in jax.tree.leaves(by_all(*params, jnp.asarray(one))):
            assert np.isfinite(number)
    for function in (
        lambda *params: make(*params).entropy(),
        lambda *params: make(*params).sample_and_log_prob(key)[1],
        lambda *params: make(*params).sample(key),
    ):
        for number in jax.tree.leaves(jax.value_and_grad(function, (0, 1))(*params)):
            assert np.isfinite(number)


# Several parts.


def test_joint() -> None:
    joint = _make("joint")
    jump, (move, inner) = joint.parts["jump"], joint.parts["move"]
    actions, log_probs = _draw(joint, 100)
    total = _log_probs(jump, actions["jump"]) + _log_probs(move, actions["move"][0])
    total += _log_probs(inner.parts[0], actions["move"][1][0])
    assert np.allclose(log_probs, total, atol=1e-4)
    entropies = [part.entropy() for part in (jump, move, inner.parts[0])]
    assert np.isclose(joint.entropy(), sum(map(float, entropies)))
    assert same(joint.mode()["move"], (move.mode(), [inner.parts[0].mode()]))


def test_parts_are_drawn_by_keys_of_their_own() -> None:
    normal = rx.Normal(jnp.zeros(()), jnp.zeros(()))
    actions, _ = _draw(rx.Joint((normal, normal, rx.Joint([normal]))), 5_000)
    correlations = np.corrcoef([actions[0], actions[1], actions[2][0]])
    assert np.all(np.abs(correlations - np.eye(3)) < 0.06)


# Mistakes.

NORMAL = rx.Normal(jnp.zeros(2), jnp.zeros(2))
MISTAKES: dict[str, tuple[type[Exception], Callable[[], Any]]] = {
    r"`action` of a `Normal` must have shape \(2,\), but got \(\)": (
        ValueError,
        lambda: NORMAL.log_prob(jnp.zeros(())),
    ),
    r"`action` of a `Categorical` must have shape \(\), but got \(5,\).*jax.vmap": (
        ValueError,
        lambda: rx.Categorical(jnp.zeros(3)).log_prob(jnp.zeros(5, int)),
    ),
    r"`action` of a `TanhNormal` must have shape \(2,\), but got \(1,\)": (
        ValueError,
        lambda: rx.TanhNormal(jnp.zeros(2), jnp.zeros(2), -1, 1).log_prob(jnp.zeros(1)),
    ),
    "`action` of a `Joint` must have the structure of its parts": (
        ValueError,
        lambda: rx.Joint({"a": NORMAL}).log_prob((jnp.zeros(2),)),
    ),
    r"must be a tree of distributions, but got 3.* at `\['a'\]`": (
        TypeError,
        lambda: rx.Joint({"a": 3}),
    ),
    "at least one distribution, but got a tuple of 0": (
        ValueError,
        lambda: rx.Joint(()),
    ),
    "must be finite, but got -1.0 and inf. Use `Normal`": (
        ValueError,
        lambda: rx.TanhNormal(jnp.zeros(2), jnp.zeros(2), -1.0, jnp.inf),
    ),
    "must be finite, but got -3.4.*e.38 and 1.0. Use `Normal`": (
        ValueError,
        lambda: rx.TanhNormal(
            jnp.zeros(2), jnp.zeros(2), np.finfo(np.float32).min, 1.0
        ),
    ),
    "`low` of `TanhNormal` must be below `high`, but got .0.0, 1.0. and 1": (
        ValueError,
        lambda: rx.TanhNormal(jnp.zeros(2), jnp.zeros(2), np.arange(2.0), 1),
    ),
    r"`high` of `TanhNormal` must broadcast .* \(2,\), but got shape \(3,\)": (
        ValueError,
        lambda: rx.TanhNormal(jnp.zeros(2), jnp.zeros(2), -1.0, jnp.ones(3)),
    ),
    "legacy key": (TypeError, lambda: NORMAL.sample(jr.PRNGKey(0))),
    "one key of shape": (ValueError, lambda: NORMAL.sample(jr.split(jr.key(0)))),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message: str) -> None:
    kind, function = MISTAKES[message]
    with pytest.raises(kind, match=message):
        function()


def test_the_contract_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        rx.AbstractDistribution()  # pyright: ignore
