"""The replay buffer beside a plain list of rows, its errors, and its memory."""

import collections
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import realax as rx

from .helpers import python, same
from .test_off_policy import start, td3


class Pair(eqx.Module):
    """A row that is a module, with a static field."""

    first: Any
    second: Any
    name: str = eqx.field(static=True, default="a pair")


KINDS = ["float32", "float16", "bfloat16", "int32", "int8", "uint8", "bool"]
SHAPES = [(), (1,), (3,), (2, 1, 2)]
LEAVES = st.builds(
    lambda shape, kind: jax.ShapeDtypeStruct(shape, jnp.dtype(kind)),
    st.sampled_from(SHAPES),
    st.sampled_from(KINDS),
)
ROWS = st.recursive(
    LEAVES,
    lambda trees: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), trees, min_size=1, max_size=4),
        st.lists(trees, min_size=1, max_size=3).map(tuple),
        st.builds(Pair, trees, trees),
    ),
    max_leaves=6,
)


def _random(rng: Any, row: Any, count: int) -> Any:
    """Rows of random bits, NaNs included."""

    def one(leaf: Any) -> Any:
        shape, kind = (count, *leaf.shape), np.dtype(leaf.dtype)
        if kind.kind == "b":
            return rng.random(shape) < 0.5
        size = int(np.prod(shape)) * kind.itemsize
        return np.frombuffer(rng.bytes(size), kind).reshape(shape)

    return jax.tree.map(one, row)


def _row(rows: Any, i: int) -> list[bytes]:
    return [np.asarray(leaf)[i].tobytes() for leaf in jax.tree.leaves(rows)]


def _bytes(row: Any) -> int:
    sizes = (np.dtype(x.dtype).itemsize * x.size for x in jax.tree.leaves(row))
    return sum(sizes)


@given(
    row=ROWS,
    block=st.integers(1, 3),
    blocks=st.integers(1, 4),
    additions=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_holds_the_latest_rows(
    row: Any, block: int, blocks: int, additions: list[int], seed: int
) -> None:
    """After each addition, through wrap-arounds, all is as in a list of the rows."""
    capacity, rng = block * blocks, np.random.default_rng(seed)
    chunks = [_random(rng, row, block * min(n, blocks)) for n in additions]
    places = jnp.arange(capacity)

    @jax.jit
    def history(chunks: Any) -> Any:
        buffer, found = rx.ReplayBuffer.new(row, capacity, block), list[Any]()
        for chunk in chunks:
            buffer = buffer.add(chunk)
            facts = buffer.rows(places), buffer.newer(places), buffer.later(places, 2)
            found.append((buffer, *facts))
        return found

    latest = collections.deque[tuple[int, list[bytes]]](maxlen=capacity)
    total = 0
    for chunk, (buffer, rows, newer, later) in zip(
        chunks, history(chunks), strict=True
    ):
        for i in range(len(jax.tree.leaves(chunk)[0])):
            latest.append((total, _row(chunk, i)))
            total += 1
        assert jax.tree.structure(rows) == jax.tree.structure(chunk)
        assert buffer.capacity == capacity and int(buffer.stored) == len(latest)
        for number, one in latest:
            place = number % capacity
            assert _row(rows, place) == one
            assert int(newer[place]) == total - 1 - number
            assert int(later[place]) == (number + 2) % capacity
        assert sum(x.nbytes for x in buffer.storage) == capacity * _bytes(row)


@pytest.mark.parametrize("kind", [jnp.float32, jnp.int8], ids=["shared", "alone"])
def test_leaves_of_no_size(kind: Any) -> None:
    row = {"none": jnp.zeros((0, 2), kind), "x": jnp.zeros(())}
    rows = {"none": jnp.zeros((4, 0, 2), kind), "x": jnp.arange(4.0)}
    buffer = rx.ReplayBuffer.new(row, 8, 2).add(rows)
    found = buffer.rows(jnp.array([3, 0, 1]))
    assert found["none"].shape == (3, 0, 2) and found["none"].dtype == kind
    assert found["x"].tolist() == [3, 0, 1]


# One kind of row for the rest, so that programs are few.
ROW = {"x": jax.ShapeDtypeStruct((2,), jnp.float32), "n": jnp.zeros((), jnp.int32)}


def _numbered(first: int, count: int) -> Any:
    n = jnp.arange(first, first + count, dtype=jnp.int32)
    return {"x": jnp.stack([n, -n], 1).astype(jnp.float32), "n": n}


@eqx.filter_jit
def _add(buffer: Any, rows: Any) -> Any:
    return buffer.add(rows)


@eqx.filter_jit
def _sample(buffer: Any, key: Any, size: int) -> Any:
    return buffer.sample(key, size)


def _filled(*counts: int, capacity: int = 12, block: int = 2) -> Any:
    buffer, first = rx.ReplayBuffer.new(ROW, capacity, block), 0
    for count in counts:
        buffer = _add(buffer, _numbered(first, count))
        first += count
    return buffer


@pytest.mark.parametrize(
    ("counts", "stored"),
    [((2,), range(2)), ((4, 4), range(8)), ((12, 4, 4), range(8, 20))],
    ids=["one block", "partly full", "wrapped"],
)
def test_samples_are_fair(counts: Any, stored: range) -> None:
    """Only stored rows are returned, whole, and all of them about equally often."""
    size = 600 * len(stored)
    rows = _sample(_filled(*counts), jr.key(0), size)
    n = np.asarray(rows["n"])
    np.testing.assert_array_equal(rows["x"], np.stack([n, -n], 1))
    values, found = np.unique(n, return_counts=True)
    assert values.tolist() == list(stored)
    # The mean of chi-square is its degrees of freedom, its variance twice as much.
    freedom = len(stored) - 1
    chi_square = ((found - 600) ** 2 / 600).sum()
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)
    other = _sample(_filled(*counts), jr.key(1), size)
    assert not same(other, rows)


def test_one_operation_at_a_time_and_in_a_scan() -> None:
    """Without `jit`, and added to in a loop, the buffer is the same."""
    chunks = [_numbered(4 * i, 4) for i in range(5)]
    plain = rx.ReplayBuffer.new(ROW, 12, 2)
    for chunk in chunks:
        plain = plain.add(chunk)
    assert same(plain, _filled(4, 4, 4, 4, 4))
    start = rx.ReplayBuffer.new(ROW, 12, 2)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *chunks)
    body = lambda buffer, chunk: (buffer.add(chunk), buffer.stored)
    scanned, stored = jax.jit(lambda: jax.lax.scan(body, start, stacked))()
    assert same(scanned, plain) and stored.tolist() == [0, 4, 8, 12, 12]
    # So is one without blocks, to which all are added at once.
    assert same(_filled(4, 8, block=1).storage, _filled(12, block=12).storage)


@pytest.mark.parametrize("shared", [False, True], ids=["own places", "one place"])
def test_many_buffers_at_once(shared: bool) -> None:
    """Mapped over buffers at different places, or all at one, each is as alone."""
    fills = [(4,), (4,), (4,)] if shared else [(2,), (12,), (12, 4)]
    alone = [_filled(*counts) for counts in fills]
    chunks = [_numbered(100 * i, 4) for i in range(1, 4)]
    stack = lambda *leaves: jnp.stack(leaves)
    buffers: Any = jax.tree.map(stack, *alone)
    axes = jax.tree.map(lambda _: 0, buffers)
    if shared:
        where = lambda tree: (tree.position, tree.stored)
        axes = eqx.tree_at(where, axes, (None, None))
        buffers = eqx.tree_at(where, buffers, where(alone[0]))

    def one(buffer: Any, rows: Any, key: Any) -> Any:
        buffer = buffer.add(rows)
        places = buffer.places(key, 5)
        later = buffer.later(places, 3)
        return buffer, buffer.rows(places), buffer.newer(places), later

    keys = jr.split(jr.key(0), 3)
    mapped = jax.jit(jax.vmap(one, (axes, 0, 0)))
    found = mapped(buffers, jax.tree.map(stack, *chunks), keys)
    apart = [
        jax.jit(one)(*each) for each in zip(alone, chunks, list(keys), strict=True)
    ]
    assert same(found, jax.tree.map(stack, *apart))


BUFFER = rx.ReplayBuffer.new(ROW, 6, 2)


@pytest.mark.parametrize(
    ("kws", "error", "message"),
    [
        ({"capacity": 7}, ValueError, "multiple of `block`, which is 2, but got 7"),
        ({"capacity": 0}, ValueError, "`capacity` .*at least 1, but got 0"),
        ({"capacity": 2.5}, TypeError, "`capacity` .*whole number.*got 2.5"),
        ({"block": -1}, ValueError, "`block` .*at least 1, but got -1"),
        ({"row": {}}, ValueError, "`row` must hold at least one array, but got {}"),
        ({"row": None}, ValueError, "`row` must hold at least one array"),
        ({"row": {"x": "text"}}, TypeError, "tree of arrays of numbers.*'text'"),
        ({"row": (jnp.zeros(2), len)}, TypeError, "tree of arrays of numbers.*len"),
        ({"row": jr.key(0)}, TypeError, r"dtype key.*`jax\.random\.key_data\(key\)`"),
        *(
            (
                {"row": row},
                TypeError,
                "`row` of `ReplayBuffer` must be a tree of arrays of numbers",
            )
            for row in (np.array(["a"]), np.str_("a"), np.array([None]))
        ),
    ],
    ids=str,
)
def test_wrong_rows_and_sizes(kws: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        rx.ReplayBuffer.new(**{"row": ROW, "capacity": 6, "block": 2, **kws})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"x": jnp.zeros((2, 2))}, r"must have the arrays of the `row`.*float32\[2, 2"),
        ((jnp.zeros((2, 2)), jnp.zeros(2, int)), "must have the arrays of the `row`"),
        ({**_numbered(0, 2), "x": jnp.zeros((2, 3))}, r"float32\[2, 3\].*float32\[2\]"),
        ({**_numbered(0, 2), "n": jnp.zeros(2)}, r"'float32\[2\]'.* where .*'int32\["),
        ({**_numbered(0, 2), "n": jnp.zeros((), int)}, "one more leading axis"),
        ({**_numbered(0, 2), "n": jnp.zeros(4, int)}, r"'int32\[4\]'"),
        (_numbered(0, 3), "multiple of `block`, which is 2, and at most 6, but got 3"),
        (_numbered(0, 8), "at most 6, but got 8"),
        (_numbered(0, 0), "but got 0"),
    ],
    ids=range(9),
)
def test_wrong_additions(rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BUFFER.add(rows)


def test_numbers_of_python() -> None:
    buffer = rx.ReplayBuffer.new({"x": 1.5, "n": 2, "yes": True}, 2)
    buffer = buffer.add(
        {"x": np.array([0.5]), "n": np.array([7]), "yes": jnp.array([True])}
    )
    row = buffer.rows(jnp.array([0]))
    assert row == {"x": 0.5, "n": 7, "yes": True}
    assert [x.dtype for x in buffer.storage] == [jnp.int32, jnp.float32, bool]


class Watch(rx.AbstractObserver):
    """An observer that does nothing, so that the run is made in chunks."""


MEMORY = """
import re, pathlib, sys
import jax
import jax.random as jr
import realax as rx
from tests.test_off_policy import td3
from tests.test_replay import Watch

def peak():
    # Not `getrusage`, whose number begins with that of the process that made this one.
    text = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", text)[1])

def run(size, *callbacks):
    state = td3(buffer_size=size, callbacks=callbacks).init_and_train_(jr.key(0))
    return sum(array.nbytes for array in state.buffer.storage)

callbacks = (Watch(every=2),) if sys.argv[1] == "observed" else ()
run(1_000, *callbacks)
before = peak()
size = run(12_000_000, *callbacks)
print(size, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("kind", ["bare", "observed"])
def test_a_run_holds_its_buffer_once(kind: str) -> None:
    done = python("-c", MEMORY, kind)
    assert done.returncode == 0, done.stderr
    size, more = map(int, done.stdout.split())
    # 9 numbers and 3 bools. Compiling takes less than a quarter of it.
    assert size == 12_000_000 * 39
    assert 0.5 * size < more < 1.5 * size


@pytest.mark.parametrize("observed", [False, True], ids=["bare", "observed"])
def test_a_state_of_the_user_s_stays(observed: bool) -> None:
    """A run writes over a copy of the buffer, so that its state can be used again."""
    trainer = td3(train_steps=4, callbacks=(Watch(every=2),) if observed else ())
    state = start(trainer)
    kept = jax.tree.map(jnp.copy, state)
    first = trainer.train(state, jr.key(1))
    assert same(state, kept)
    assert not same(first[0].buffer, kept.buffer)
    assert same(trainer.train(state, jr.key(1)), first)
    assert same(state, kept)
