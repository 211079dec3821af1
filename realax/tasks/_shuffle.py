"""Passes through the examples of a data set in random order, batch by batch."""

import functools
import math

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, UInt32

from .._keys import fold_in, quick
from .._types import PRNGKeyArray, Step


_ROUNDS = 8
# Up to this many examples are sorted, which is cheap and makes all orders equally
# likely.
_FEW = 2048
# So many indices leave 20 random bits of 32, of which two are seldom equal.
_PACKED = 4096


def batch_rows(
    step: Step, key: PRNGKeyArray, batch_size: int, examples: int
) -> Int[Array, " batch"]:
    """Return the rows of the batch of one step.

    The batches of all steps, in order, are a sequence of permutations of all rows.

    **Arguments:**

    - `step`: the number of batches before this one.
    - `key`: the key of the permutations, the same in every step.
    - `batch_size`: at most `examples`.
    - `examples`: fewer than `2**30`.
    """
    epoch, place = _position(step, batch_size, examples)
    place += jnp.arange(batch_size, dtype=jnp.uint32)
    epoch += (place >= examples).astype(jnp.uint32)
    place = jnp.where(place >= examples, place - examples, place)
    return _shuffled(place, epoch, key, examples)


def shuffles(key: PRNGKeyArray, passes: int, size: int) -> Int[Array, "passes size"]:
    """Return a random order of `range(size)` for each of several passes.

    They are found by one sort of random numbers, whose lowest bits hold the index where
    that leaves enough random ones: a sort of one array takes a fraction of the time of
    one that moves the indices along, and of `jr.permutation`, which sorts twice.
    """
    numbers = jr.bits(quick(key), (passes, size), jnp.uint32)
    if size > _PACKED:
        return jnp.argsort(numbers, axis=1)
    low = jnp.uint32(2 ** (size - 1).bit_length() - 1)
    index = jnp.arange(size, dtype=jnp.uint32)
    return (jnp.sort(numbers & ~low | index, axis=1) & low).astype(jnp.int32)


def _position(
    step: Step, batch_size: int, examples: int
) -> tuple[UInt32[Array, ""], UInt32[Array, ""]]:
    """Return `divmod(step * batch_size, examples)`; the product may exceed 32 bits."""
    # `period` steps make a whole number of passes.
    common = math.gcd(examples, batch_size)
    period, passes = examples // common, batch_size // common
    step = step.astype(jnp.uint32)
    epochs, rest = step // period * passes, step % period

    def digit(bit: str, epoch: Array, place: Array) -> tuple[Array, Array]:
        place = 2 * place + (rest if bit == "1" else 0)
        over = place // examples  # at most 2
        return 2 * epoch + over, place - over * examples

    epoch, place = jnp.zeros((2,), jnp.uint32)
    for bit in f"{batch_size:b}":
        epoch, place = digit(bit, epoch, place)
    return epochs + epoch, place


def _shuffled(
    place: UInt32[Array, " batch"],
    epoch: UInt32[Array, " batch"],
    key: PRNGKeyArray,
    size: int,
) -> Int[Array, " batch"]:
    """Return the entries at `place` in the permutation of `range(size)` of an `epoch`.

    A Feistel network permutes the numbers of `2 * half` bits. It is applied again to
    those outside the range, so that the cost depends on the size of the batch and not
    on that of the data.

    Source: J. Black, P. Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002.
    """
    if size <= _FEW:
        sort = functools.partial(_sorted, key=key, size=size)
        first, second = jax.vmap(sort)(jnp.stack([epoch[0], epoch[0] + 1]))
        return jnp.where(epoch == epoch[0], first[place], second[place])
    half = max(1, math.ceil(math.log2(max(2, size)) / 2))
    mask = jnp.uint32(2**half - 1)
    secrets = jr.bits(quick(key), (_ROUNDS,), jnp.uint32)

    def permute(x: UInt32[Array, " batch"]) -> UInt32[Array, " batch"]:
        left, right = x >> half, x & mask
        for secret in secrets:
            left, right = right, left ^ (_mixed(right, epoch, secret) & mask)
        return (left << half) | right

    def outside(x: UInt32[Array, " batch"]) -> Array:
        return jnp.any(x >= size)

    def again(x: UInt32[Array, " batch"]) -> UInt32[Array, " batch"]:
        return jnp.where(x >= size, permute(x), x)

    return jax.lax.while_loop(outside, again, permute(place)).astype(jnp.int32)


def _sorted(epoch: Array, key: PRNGKeyArray, size: int) -> Int[Array, " size"]:
    return jr.permutation(quick(fold_in(key, epoch)), size)


def _mixed(x: Array, epoch: Array, secret: Array) -> UInt32[Array, " batch"]:
    """Return a number that looks independent for each `(x, epoch, secret)`.

    The finishing steps are those of MurmurHash3 (A. Appleby, public domain).
    """
    x = (x + epoch * jnp.uint32(0x9E3779B1)) ^ secret
    for _ in range(2):
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        x = (x ^ (x >> 16)) + secret
    return x
