"""Episodes of gymnasium's environments, several side by side in one process."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, final

import jax
import numpy as np

from .._check import no_type_check
from .._compile import readable_errors
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
from .._workers._jobs import seeds_of
from ._gathered import on_device
from ._gymnasium_adapter import (
    build,
    envelope_space,
    from_gymnasium,
    one_number,
    to_gymnasium,
)
from ._gymnasium_policies import Policies, Rules, rows_of


# The number of episodes side by side, if there are as many jobs.
_LANES = 64
# New episodes begin when one lane in this many is free, because a refill costs a call.
_FREE = 4
# The last episodes are played by calls of so many lanes, which take three quarters of
# the time of calls of 64, and less with wide networks.
_LAST = 8


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
        self._lanes = list[_Lane]()
        first = self._lane()
        space = envelope_space(first.env.action_space, rules.name)
        self._policies = Policies(rules, setup, space)
        self._from = from_gymnasium(first.env.observation_space)
        self._to = to_gymnasium(first.env.action_space)
        self._lanes.append(first)
        self._device = _cpu()

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
                if not table.waiting and 0 < len(live) <= _LAST < table.size:
                    table = self._narrowed(table, live)
                    lanes, live = table.lanes, [*range(len(live))]
                table.alive[:] = False
                table.alive[live] = True
                changed = False
            if not live:
                if not table.waiting:
                    break
                changed = True
                continue
            actions, table.moving = self._policies.decided(
                table.cast, table.moving, table.obs, table.steps, table.alive
            )
            action_of, step = rows_of(actions), self._step
            for i in live:
                lane = lanes[i]
                begin(lane.job)
                step(lane, action_of(i), i, table, collect)
                if lane.over:
                    changed = True
            table.steps += table.alive
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
        arrays = on_device(batch.arrays)
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
        table.cast, table.moving, words = self._policies.begun(
            table.arrays, rows, batch.keys[mine], fresh, table.moving
        )
        seeds = seeds_of(np.asarray(words))
        for i in new:
            shown = self._reset(lanes[i], seeds[i], begin, table.results)
            table.obs = _filled(table.obs, i, shown, size)
            table.steps[i] = 0
        begin(BETWEEN)

    @no_type_check
    def _narrowed(self, table: "_Table", live: list[int]) -> "_Table":
        """Return a table of the live lanes alone, when no episode is to begin."""
        self._keep_moments(table, [i for i in range(len(table.lanes)) if i not in live])
        rows = np.array([*live, *[live[0]] * (_LAST - len(live))], np.int32)
        cast, moving = self._policies.some((table.cast, table.moving), rows)
        return dataclasses.replace(
            table,
            lanes=[table.lanes[i] for i in live],
            size=_LAST,
            steps=table.steps[rows],
            alive=np.zeros(_LAST, bool),
            cast=cast,
            moving=moving,
            obs=jax.tree.map(lambda leaf: leaf[rows], table.obs),
        )

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
    ) -> None:
        """Make a step of an episode, and show the lane the observation after it."""
        fatal = False
        try:
            obs, reward, terminated, truncated, _ = lane.env.step(self._to(action))
            if type(reward) is not float:
                fatal = np.ndim(reward) != 0
                reward = one_number(reward, self._rules.name)
            shown = self._from(obs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of any package; some derive from it
            self._fail(lane, error, table.results, fatal)
            return
        lane.total += reward
        lane.length = length = lane.length + 1
        if length >= self._rules.max_steps:
            truncated = True
        if collect is not None:
            before = jax.tree.map(lambda leaf: leaf[i].copy(), table.obs)
            collect(lane.job, before, action, reward, bool(terminated), bool(truncated))
        if terminated or truncated:
            lane.over = True
            aux = {"length": np.int32(length)}
            table.results[lane.job] = Outcome(lane.total, aux)
        _fill(table.obs, i, shown)

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
        moments = self._policies.moments_of(table.moving)
        results = table.results
        for i in some:
            job = table.lanes[i].job
            if job >= 0 and isinstance(results[job], Outcome):
                results[job] = results[job]._replace(moments=moments(i))

    def _lane(self) -> _Lane:
        return _Lane(build(self._rules.env, self._rules.kws))


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
