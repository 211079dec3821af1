"""Random keys, and the form of them from which a CPU draws the same numbers faster.

jax's default generator is Threefry-2x32 of Salmon et al. (2011, "Parallel random
numbers: as easy as 1, 2, 3"). On a CPU, jax leaves its rounds in a loop, each pass of
which runs several kernels. They take many times as long as the few numbers that a step
needs, and each is compiled. A quick key draws without a loop, in one kernel.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.extend.random import define_prng_impl, threefry_prng_impl

from ._types import PRNGKeyArray


def quick(key: PRNGKeyArray) -> PRNGKeyArray:
    """Return a key from which `jax.random` draws the same numbers, faster on a CPU.

    It has a dtype of its own, and so is never passed to code of users. Where it would
    not be faster, or the numbers not the same, it is `key` itself.
    """
    if jax.default_backend() != "cpu" or not _is_threefry(key):
        return key
    return jr.wrap_key_data(jr.key_data(key), impl=_QUICK)


def fold_in(key: PRNGKeyArray, data: Any) -> PRNGKeyArray:
    """Return the same key as `jax.random.fold_in`, faster on a CPU."""
    return _usual(jr.fold_in(quick(key), data))


def split(key: PRNGKeyArray, num: int | tuple[int, ...] = 2) -> PRNGKeyArray:
    """Return the same keys as `jax.random.split`, faster on a CPU."""
    return _usual(jr.split(quick(key), num))


def _is_threefry(key: PRNGKeyArray) -> bool:
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return False
    # Without this option jax gives the numbers in another order.
    return jr.key_impl(key) == "threefry2x32" and jax.config.jax_threefry_partitionable


def _usual(key: PRNGKeyArray) -> PRNGKeyArray:
    if jr.key_impl(key) != _QUICK:
        return key
    return jr.wrap_key_data(jr.key_data(key), impl="threefry2x32")


_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)  # of the rounds, four by four
_PARITY = 0x1BD11BDA


# Jitted, so that those of one shape are traced and lowered once in each program.
@jax.jit
def _encrypted(key: Any, high: Any, low: Any) -> tuple[Any, Any]:
    """Return both words of encrypted counters, which are given by their words."""
    lax, (first, second) = jax.lax, key
    words = first, second, first ^ second ^ jnp.uint32(_PARITY)
    x, y = high + first, low + second
    for group in range(5):
        for turn in _ROTATIONS[group % 2]:
            x = lax.add(x, y)
            left = lax.shift_left(y, lax.full_like(y, turn))
            right = lax.shift_right_logical(y, lax.full_like(y, 32 - turn))
            y = lax.bitwise_xor(lax.bitwise_or(left, right), x)
        x = x + words[(group + 1) % 3]
        y = y + words[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def _counters(shape: tuple[int, ...]) -> tuple[Any, Any]:
    low = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    return jnp.zeros_like(low), low


# The results pass through barriers, because XLA would compute a number once more for
# each of its uses. One kernel makes both words of a key and selects: two would make the
# same rounds, and each would be compiled.
def _fold_in(key: Any, data: Any) -> Any:
    low = jnp.broadcast_to(jnp.asarray(data, jnp.uint32), (2,))
    return _words(_encrypted(key, jnp.zeros_like(low), low))


def _split(key: Any, shape: tuple[int, ...]) -> Any:
    _, low = _counters(shape)
    low = jnp.broadcast_to(low[..., None], (*shape, 2))
    return _words(_encrypted(key, jnp.zeros_like(low), low))


def _words(words: tuple[Any, Any]) -> Any:
    is_first = jnp.arange(2) == 0  # along the last axis
    return jax.lax.optimization_barrier(jnp.where(is_first, *words))


def _random_bits(key: Any, width: int, shape: tuple[int, ...]) -> Any:
    if math.prod(shape) > 2**32:  # counters of more than one word
        return threefry_prng_impl.random_bits(key, width, shape)
    high, low = _encrypted(key, *_counters(shape))
    dtype = jnp.dtype(f"uint{width}")
    if width == 64:
        bits = (high.astype(dtype) << 32) | low.astype(dtype)
    else:
        bits = (high ^ low).astype(dtype)
    return jax.lax.optimization_barrier(bits)


_QUICK: Any = define_prng_impl(
    key_shape=threefry_prng_impl.key_shape,
    seed=threefry_prng_impl.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32 without loops",
    tag="quick",
)
