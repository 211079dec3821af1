"""Episodes of gymnasium's environments, several side by side in one process."""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._check import no_type_check
from .._compile import readable_errors
from .._errors import describe
from .._trees import where
from .._workers import (
    BETWEEN,
    AbstractPlayer,
    AbstractWork,
    Batch,
    Begin,
    Failure,
    Outcome,
    Setup,
)
from ..policies import Moments
from ._checks import policy_from
from ._gymnasium_adapter import build, envelope_space, from_gymnasium, to_gymnasium
from ._rollout import job_keys
from ._spaces import Layouts


# The number of episodes side by side, if there are as many jobs.
_LANES = 64
# New episodes begin when one lane in this many is free, because a refill costs a call.
_FREE = 4


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a worker knows of a task on gymnasium's environments.

    - `env`, `kws`: a name and the arguments of its constructor, or a function that
        makes an environment.
    - `max_steps`, `lanes`, `fresh`, `flatten_obs`, `model_factory`: those of the task.
    - `count`: whether to sum up the observations.
    - `name`: the name of the environment in messages.
    - `layouts`: those of its observations and actions.
    """

    env: Any
    kws: dict[str, Any]
    max_steps: int
    lanes: int | None
    fresh: bool
    flatten_obs: bool
    model_factory: Any
    count: bool
    name: str
    layouts: Layouts


@final
class Episodes(AbstractWork):
    """An episode for each job, several side by side.

    Only live environments step. The policies of all lanes choose their actions in one
    compiled call. An episode does not depend on the others.

    **Arguments:**

    - `rules`: what is known of the task.
    """

    together = True

    def __init__(self, rules: Rules):
        self.rules = rules

    def open(self, setup: Setup) -> AbstractPlayer:
        """Return what plays the episodes of a batch."""
        return Lanes(self.rules, setup)


class _Lane:
    """An environment, and the episode that it plays."""

    env: Any

    def __init__(self, env: Any):
        self.env = env
        self.job = -1
        self.total = 0.0
        self.length = 0
        self.over = True

    def close(self) -> None:
        """Close the environment, which may have failed before."""
        env, self.env = self.env, None
        if env is not None:
            with contextlib.suppress(Exception):
                env.close()


class _Cast(eqx.Module):
    """Who plays in the lanes: what changes only when lanes take new jobs."""

    policies: Any
    keys: Any


class _Moving(eqx.Module):
    """What each step changes."""

    memory: Any
    moments: Moments | None


@dataclasses.dataclass
class _Table:
    """The lanes of a batch while it is played.

    - `lanes`, `size`: the lanes, and their number in compiled calls.
    - `arrays`: those of the individuals, stacked.
    - `waiting`: the jobs that have not begun.
    - `results`: those of all jobs so far.
    - `steps`, `alive`: for each lane, the steps so far, and whether it is live.
    - `cast`, `moving`, `obs`: who plays, what each step changes, what is observed.
    """

    lanes: list[_Lane]
    size: int
    arrays: Any
    waiting: collections.deque[int]
    results: list[Any]
    steps: np.ndarray
    alive: np.ndarray
    cast: Any = None
    moving: Any = None
    obs: Any = None


# Called with a job, its observation, action and reward, and whether it terminated and
# was truncated.
type Collect = Callable[[int, Any, Any, float, bool, bool], None]


@final
class Lanes(AbstractPlayer):
    """Plays batches of episodes with environments that are used again.

    **Arguments:**

    - `rules`: what is known of the task.
    - `setup`: what all jobs share.
    """

    def __init__(self, rules: Rules, setup: Setup):
        self._rules = rules
        self._setup = setup
        self._lanes = list[_Lane]()
        first = self._lane()
        self._space = envelope_space(first.env.action_space, rules.name)
        self._from = from_gymnasium(first.env.observation_space)
        self._to = to_gymnasium(first.env.action_space)
        self._lanes.append(first)
        self._device = _cpu()
        # One lane as it was traced: its structure, and its leaves that are no arrays.
        self._rest: Any = None

    @no_type_check
    def play(
        self, batch: Batch, begin: Begin, collect: Collect | None = None
    ) -> list[Outcome | Failure]:
        """Play the episodes of a batch.

        **Arguments:**

        - `batch`: the jobs.
        - `begin`: called before each call of an environment, and after them.
        - `collect`: called after each step of an episode.
        """
        with jax.default_device(self._device), readable_errors():
            return self._play(batch, begin, collect)

    def close(self) -> None:
        """Close all environments."""
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()

    @no_type_check
    def _play(self, batch: Batch, begin: Begin, collect: Any) -> Any:
        table = self._table(batch)
        lanes, changed, live = table.lanes, True, list[int]()
        while True:
            if changed:
                self._refill(table, batch, begin)
                live = [i for i, lane in enumerate(lanes) if not lane.over]
                table.alive[:] = False
                table.alive[live] = True
                changed = False
            if not live:
                if not table.waiting:
                    break
                changed = True
                continue
            actions, table.moving = self._decided(
                table.cast, table.moving, table.obs, table.steps, table.alive
            )
            action_of = _rows(actions)
            for i in live:
                lane = lanes[i]
                begin(lane.job)
                shown = self._step(lane, action_of(i), i, table, collect)
                if shown is not None:
                    _fill(table.obs, i, shown)
                changed |= lane.over
            table.steps[live] += 1
            begin(BETWEEN)
        self._keep_moments(table, range(len(lanes)))
        return table.results

    def _table(self, batch: Batch) -> "_Table":
        """Return the lanes of a batch, all of them free."""
        jobs, most = len(batch.jobs), self._rules.lanes or _LANES
        size = min(most, 1 << (jobs - 1).bit_length())
        while len(self._lanes) < min(size, jobs):
            self._lanes.append(self._lane())
        lanes = self._lanes[: min(size, jobs)]
        for lane in lanes:
            lane.job, lane.over = -1, True
        arrays = jax.device_put(batch.arrays, self._device)
        waiting = collections.deque(range(jobs))
        steps, alive = np.zeros(size, np.int32), np.zeros(size, bool)
        return _Table(lanes, size, arrays, waiting, [None] * jobs, steps, alive)

    @no_type_check
    def _refill(self, table: "_Table", batch: Batch, begin: Begin) -> None:
        """Begin the next episodes if enough lanes are free."""
        lanes, waiting, size = table.lanes, table.waiting, table.size
        free = [i for i, lane in enumerate(lanes) if lane.over]
        if not waiting or len(free) * _FREE < len(lanes):
            return
        self._keep_moments(table, free)
        new = free[: len(waiting)]
        for i in new:
            lanes[i].job = waiting.popleft()
        mine = np.zeros(size, np.int32)
        mine[: len(lanes)] = [max(lane.job, 0) for lane in lanes]
        fresh = np.zeros(size, bool)
        fresh[new] = True
        rows = np.asarray(batch.rows, np.int32)[mine]
        table.cast, table.moving, words = self._begun(
            table.arrays, rows, batch.keys[mine], fresh, table.moving
        )
        seeds = (np.asarray(words)[:, -1] & np.uint32(0x7FFFFFFF)).tolist()
        for i in new:
            shown = self._reset(lanes[i], seeds[i], begin, table.results)
            table.obs = _filled(table.obs, i, shown, size)
            table.steps[i] = 0
        begin(BETWEEN)

    @no_type_check
    def _reset(self, lane: _Lane, seed: int, begin: Begin, results: Any) -> Any:
        """Begin an episode, and return its first observation."""
        lane.total, lane.length, lane.over = 0.0, 0, False
        begin(lane.job)
        try:
            if self._rules.fresh or lane.env is None:
                lane.close()
                lane.env = build(self._rules.env, self._rules.kws)
            obs, _ = lane.env.reset(seed=seed)
            return self._from(obs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of any package; some derive from it
            self._fail(lane, error, results)
            return None

    @no_type_check
    def _step(
        self, lane: _Lane, action: Any, i: int, table: "_Table", collect: Any
    ) -> Any:
        """Make a step of an episode, and return the observation after it."""
        fatal = False
        try:
            obs, reward, terminated, truncated, _ = lane.env.step(self._to(action))
            if type(reward) is not float:
                fatal = np.ndim(reward) != 0
                reward = _one_number(reward, self._rules.name)
            shown = self._from(obs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of any package; some derive from it
            self._fail(lane, error, table.results, fatal)
            return None
        lane.total += reward
        lane.length += 1
        if lane.length >= self._rules.max_steps:
            truncated = True
        if collect is not None:
            before = jax.tree.map(lambda leaf: leaf[i].copy(), table.obs)
            collect(lane.job, before, action, reward, bool(terminated), bool(truncated))
        if terminated or truncated:
            lane.over = True
            aux = {"length": np.int32(lane.length)}
            table.results[lane.job] = Outcome(lane.total, aux)
        return shown

    @no_type_check
    def _fail(
        self, lane: _Lane, error: BaseException, results: Any, fatal: bool = False
    ) -> None:
        """End an episode by an exception; its environment is not used again."""
        results[lane.job] = Failure.of(error, fatal)
        lane.over = True
        lane.close()

    @no_type_check
    def _keep_moments(self, table: "_Table", some: Any) -> None:
        """Add the sums over the observations to the results of episodes that ended."""
        if table.moving is None or not self._rules.count:
            return
        arrays = [np.asarray(leaf) for leaf in table.moving]
        moments = _rows(_with_arrays(self._rest[1], arrays).moments)
        results = table.results
        for i in some:
            job = table.lanes[i].job
            if job >= 0 and isinstance(results[job], Outcome):
                results[job] = results[job]._replace(moments=moments(i))

    def _lane(self) -> _Lane:
        return _Lane(build(self._rules.env, self._rules.kws))

    @functools.cached_property
    def _begun(self) -> Any:
        """The compiled start of new episodes in some of the lanes.

        It returns lists of the arrays of the `_Cast` and of the `_Moving`, which jax
        takes faster than modules, and the raw keys of the environments.
        """
        setup, rules = self._setup, self._rules

        def begin(arrays: Any, row: Any, words: Any) -> Any:
            one = setup.population([leaf[row] for leaf in arrays])
            policy = policy_from(one, rules.model_factory)
            env_key, init_key, key = job_keys(jr.wrap_key_data(words))
            moments = self._no_moments() if rules.count else None
            memory = policy.initialize(init_key)
            cast, moving = _Cast(policy, key), _Moving(memory, moments)
            self._rest = jax.tree.map(_without_array, (cast, moving))
            return _arrays_of(cast), _arrays_of(moving), jr.key_data(env_key)

        def begun(arrays: Any, rows: Any, keys: Any, fresh: Any, before: Any) -> Any:
            cast, moving, words = jax.vmap(begin, (None, 0, 0))(arrays, rows, keys)
            if before is not None:
                moving = jax.vmap(where)(fresh, moving, before)
            return cast, moving, words

        return jax.jit(begun)

    def _no_moments(self) -> Moments:
        zeros = jnp.zeros((self._rules.layouts.obs.size,))
        return Moments(jnp.zeros(()), zeros, zeros, zeros)

    @functools.cached_property
    def _decided(self) -> Any:
        """The compiled choice of an action in each lane."""
        rules, space = self._rules, self._space

        def decide(cast: Any, moving: Any, obs: Any, t: Any, live: Any) -> Any:
            before = cast, moving
            cast, moving = map(_with_arrays, self._rest, before)
            shown = rules.layouts.obs.flatten(obs) if rules.flatten_obs else obs
            policy, memory = cast.policies, moving.memory
            noise = policy.noise_for(jr.fold_in(cast.keys, t), shown, memory)
            decision = policy.decide(shown, memory, noise)
            action = rules.layouts.action.to_action(decision.output, space, live)
            moments = moving.moments
            if moments is not None:
                first = Moments.before(shown).with_obs(shown)
                counted = where(t == 0, first, moments.with_obs(shown))
                moments = where(live, counted, moments)
            return action, _arrays_of(_Moving(decision.state, moments))

        return jax.jit(jax.vmap(decide))


def _without_array(leaf: Any) -> Any:
    """Return something in the place of a traced array, which is invalid later."""
    return np.zeros(()) if eqx.is_array_like(leaf) else leaf


def _arrays_of(tree: Any) -> list[Any]:
    return [jnp.asarray(x) for x in jax.tree.leaves(tree) if eqx.is_array_like(x)]


def _with_arrays(tree: Any, arrays: list[Any]) -> Any:
    """Return a tree with other arrays in the places of its own."""
    leaves, structure = jax.tree.flatten(tree)
    found = iter(arrays)
    return jax.tree.unflatten(
        structure, [next(found) if eqx.is_array_like(x) else x for x in leaves]
    )


@no_type_check
def _rows(tree: Any) -> Callable[[int], Any]:
    """Return a function from a lane to its part of a tree of arrays."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(leaf) for leaf in leaves]
    if len(arrays) == 1 and structure == _ONE:
        return arrays[0].__getitem__
    return lambda i: jax.tree.unflatten(structure, [array[i] for array in arrays])


_ONE = jax.tree.structure(0)


@no_type_check
def _filled(buffers: Any, i: int, obs: Any, size: int) -> Any:
    """Return the observations of all lanes, with that of lane `i` replaced."""
    if obs is None:
        return buffers
    if buffers is None:
        buffers = jax.tree.map(lambda x: np.zeros((size, *x.shape), x.dtype), obs)
    _fill(buffers, i, obs)
    return buffers


@no_type_check
def _fill(buffers: Any, i: int, obs: Any) -> None:
    """Replace the observation of lane `i`."""
    if isinstance(buffers, np.ndarray):
        buffers[i] = obs
        return
    pairs = zip(jax.tree.leaves(buffers), jax.tree.leaves(obs), strict=True)
    for buffer, leaf in pairs:
        buffer[i] = leaf


def _cpu() -> Any:
    """Return a CPU, or what there is if jax is kept from using one."""
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:
        return jax.devices()[0]


@no_type_check
def _one_number(reward: Any, name: str) -> float:
    if isinstance(reward, dict) or np.ndim(reward) != 0:
        raise TypeError(
            f"the reward of {name} must be one number, but got {describe(reward)}, as "
            "several agents get them. Wrap the environment in one that adds them up."
        )
    return float(reward)
