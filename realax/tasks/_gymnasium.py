"""gymnasium's environments as tasks."""

from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex, Unpack, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._arguments import arguments, flag, function, keywords, optional, whole
from .._callables import name_of
from .._errors import warn_user
from .._frozen import Frozen, freeze, identity
from .._types import EXECUTION, PRNGKeyArray, Tree
from .._workers import AbstractWork, Failure, Jobs, Setup
from .._workers._jobs import split
from ..policies import ObsStats, no_obs
from ._gymnasium_adapter import build, check_size
from ._gymnasium_checks import (
    an_env,
    check_step,
    horizon,
    layouts_of,
    not_repeated,
)
from ._gymnasium_lanes import Episodes, Lanes
from ._gymnasium_policies import Rules
from ._host_options import HOST_CHECKS, HostOptions, check_sendable
from ._on_host import check_concrete
from ._rollout import Trajectory
from ._spaces import EnvSpace, Layout, Layouts
from ._workers_task import AbstractWorkersTask


_MISSING = (
    "`GymnasiumTask` needs gymnasium, which cannot be imported: "
    '`pip install "realax[host]"` brings it.'
)


@final
class GymnasiumTask[P](AbstractWorkersTask[P]):
    """The return of a policy's episode on an environment of gymnasium, on the host.

    `task(params, key)` is `(return, {"length": steps played})`, as for an `EnvTask`:
    the same keys, the same conversion of observations to vectors, and of the policy's
    output to actions by argmax and clipping. The environment is seeded by the last 31
    bits of its own key.

    Each worker plays its episodes side by side: only live environments step, and the
    policies of all of them choose their actions in one compiled call, on CPU.

    **Arguments:**

    - `env`: a name, such as `"LunarLander-v3"`, or a function that makes a
        `gymnasium.Env`, such as the class of an environment.
    - `max_steps`: the longest episode, in steps; the environment's own limit if `None`.
    - `model_factory`: makes a `BasePolicy` from the parameters; by default the
        parameters are the policy.
    - `env_kwargs`, `normalize_obs`, `flatten_obs`: as for every environment task.
    - `lanes`: the number of episodes that a worker plays side by side; `None`, the
        default, for 64.
    - `fresh`: whether each episode gets a new environment. `task.check()` says whether
        that is needed. False by default.
    - `workers`, `backend`, `timeout`, `retries`, `errors`: keywords, which
        `HostOptions` describes. Here `timeout` is the longest time of one `reset` or
        `step` of an environment, in seconds.

    **Raises:** `ValueError` with the closest matches for an unknown name, for an
    environment without a limit of steps, and for images that are to be flattened;
    `TypeError` for one of several agents, and for spaces without a fixed shape;
    `ImportError` if an extra is missing.
    """

    env: str | Callable[[], Any] = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    model_factory: Callable[[Any], Any] = eqx.field(static=True)
    env_kwargs: Frozen = eqx.field(static=True)
    lanes: int | None = eqx.field(static=True, metadata=EXECUTION)
    normalize_obs: bool = eqx.field(static=True)
    flatten_obs: bool = eqx.field(static=True)
    fresh: bool = eqx.field(static=True)
    obs_layout: Layout = eqx.field(static=True, init=False)
    action_layout: Layout = eqx.field(static=True, init=False)

    @arguments(
        env=an_env,
        max_steps=optional(whole()),
        model_factory=function("(params) -> policy"),
        env_kwargs=keywords,
        lanes=optional(whole()),
        normalize_obs=flag,
        flatten_obs=flag,
        fresh=flag,
        **HOST_CHECKS,
    )
    def __init__(
        self,
        env: str | Callable[[], Any],
        max_steps: SupportsIndex | None = None,
        model_factory: Callable[[Any], Any] = identity,
        *,
        env_kwargs: Mapping[str, Any] | None = None,
        lanes: SupportsIndex | None = None,
        normalize_obs: bool = False,
        flatten_obs: bool = True,
        fresh: bool = False,
        **options: Unpack[HostOptions],
    ):
        super().__init__(options)
        if self.backend == "ray" and self.workers > 0 and self.timeout is not None:
            raise ValueError(
                "`timeout` of `GymnasiumTask` is that of one step, and an actor of Ray "
                f"does not tell when a step begins, but got {self.timeout} with "
                "`backend='ray'`. Leave it out, or use processes."
            )
        if env_kwargs and not isinstance(env, str):
            raise ValueError(
                "`env_kwargs` of `GymnasiumTask` are for an environment given by name, "
                f"but got the function {name_of(env)}. Pass them in the function."
            )
        if normalize_obs and not flatten_obs:
            raise ValueError(
                "`normalize_obs` needs flat observations, but got `flatten_obs=False`. "
                "Normalise inside the policy instead."
            )
        self.env = env
        self.model_factory = model_factory
        self.env_kwargs = freeze(env_kwargs)
        self.lanes = cast(int | None, lanes)
        self.normalize_obs = normalize_obs
        self.flatten_obs = flatten_obs
        self.fresh = fresh
        try:
            example = build(env, self.env_kwargs.thaw())
        except ModuleNotFoundError as error:
            if error.name != "gymnasium":
                raise
            raise ImportError(_MISSING) from error
        try:
            if flatten_obs:
                check_size(example.observation_space, self.display_name)
            self.obs_layout, self.action_layout = layouts_of(example, self.display_name)
            self.max_steps = horizon(example, max_steps, self.display_name)
            check_step(example, self.display_name)
        finally:
            example.close()
        if self.workers > 0 and self.backend != "threads":
            check_sendable("`env` of `GymnasiumTask`", env)
            check_sendable("`model_factory` of `GymnasiumTask`", model_factory)

    @property
    def maximize(self) -> bool:
        """True, because a larger return is better."""
        return True

    @property
    def stochastic(self) -> bool:
        """True, because episodes begin at random."""
        return True

    @property
    def display_name(self) -> str:
        """The name of the environment in messages, in backticks."""
        return f"`{self.env}`" if isinstance(self.env, str) else name_of(self.env)

    @property
    def space(self) -> EnvSpace:
        """The sizes that a policy needs."""
        action = self.action_layout
        return EnvSpace(self.obs_layout.size, action.size, action.discrete)

    @property
    def obs_shape(self) -> Tree:
        """The shape and dtype of the observations that policies get.

        A `jax.ShapeDtypeStruct`, or with `flatten_obs=False` a tree of them with the
        structure of the environment's observation.
        """
        if self.flatten_obs:
            float_ = jnp.result_type(float)
            return jax.ShapeDtypeStruct((self.obs_layout.size,), float_)
        leaves = [
            jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))
            for leaf in self.obs_layout.leaves
        ]
        return jax.tree.unflatten(self.obs_layout.treedef, leaves)

    @property
    def obs_stats(self) -> ObsStats | None:
        """The statistics of no observation; `None` without `normalize_obs`."""
        return no_obs(self.obs_layout.size) if self.normalize_obs else None

    def work(self) -> AbstractWork:
        """Return the episodes that workers play."""
        return Episodes(self._rules)

    def rollout(self, params: P, key: PRNGKeyArray) -> Trajectory:
        """Play the same episode as `task(params, key)`, and return all of its steps.

        It is played in this process.

        **Arguments:**

        - `params`, `key`: as for a call of the task.

        **Returns:** The steps, with a leading axis of `max_steps`.

        **Raises:** the exception of the environment; `RuntimeError` under `jit`, `vmap`
        and `grad`.
        """
        check_concrete(type(self).__name__, params, key)
        one = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, params)
        arrays, leaves, structure = split(one)
        setup = Setup(self.work(), leaves, structure, None)
        words = np.asarray(jr.key_data(key))[None]
        rows = list[tuple[Any, ...]]()
        lanes = Lanes(self._rules, setup)
        try:
            (result,) = lanes.play(
                Jobs(arrays, words, 1).batch((0,)),
                lambda job: None,
                lambda job, *row: rows.append(row),
            )
        finally:
            lanes.close()
        if isinstance(result, Failure):
            raise result.error
        return self._trajectory(rows)

    @arguments(episodes=whole())
    def check(self, episodes: SupportsIndex = 16) -> list[int]:
        """Return the seeds whose episodes differ in an environment that is used again.

        Each of the seeds from 0 is played with random actions, in a new environment,
        and in one that has played the others before. If some differ, results depend on
        how episodes are divided among workers, and `fresh=True` is needed, as a warning
        says. It takes as long as the episodes.

        **Arguments:**

        - `episodes`: the number of seeds.
        """
        build_one = lambda: build(self.env, self.env_kwargs.thaw())
        differing = not_repeated(build_one, cast(int, episodes), self.max_steps)
        if differing and not self.fresh:
            warn_user(
                f"{len(differing)} of {episodes} episodes of {self.display_name} "
                "differ in an environment that has played others before. Pass "
                "`fresh=True`, so that results depend on the seeds alone."
            )
        return differing

    @property
    def _rules(self) -> Rules:
        return Rules(
            self.env,
            self.env_kwargs.thaw(),
            self.max_steps,
            self.lanes,
            self.fresh,
            self.flatten_obs,
            self.model_factory,
            self.normalize_obs,
            self.display_name,
            Layouts(self.obs_layout, self.action_layout),
        )

    def _trajectory(self, rows: list[tuple[Any, ...]]) -> Trajectory:
        """Return the steps of an episode, with zeros up to `max_steps`."""
        obs, actions, rewards, terminated, truncated = zip(*rows, strict=True)
        if self.flatten_obs:
            obs = [self.obs_layout.flatten(one) for one in obs]

        def stacked(*steps: Any) -> Any:
            found = jnp.asarray(np.stack(steps))
            padding = [(0, self.max_steps - len(steps))] + [(0, 0)] * (found.ndim - 1)
            return jnp.pad(found, padding)

        return Trajectory(
            obs=jax.tree.map(stacked, *obs),
            action=jax.tree.map(stacked, *actions),
            reward=stacked(*rewards).astype(jnp.result_type(float)),
            valid=stacked(*[True] * len(rows)),
            terminated=stacked(*terminated),
            truncated=stacked(*truncated),
        )
