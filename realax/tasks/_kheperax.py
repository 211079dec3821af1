"""kheperax's mazes as tasks."""

from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import arguments, flag, text
from .._frozen import Frozen, cached, identity
from .._types import Tree
from ._descriptor import LastOf
from ._env import Environment, EnvTask, Params
from ._options import ENV_CHECKS, EnvOptions, constructor_kwargs
from ._rollout import Trajectory
from ._spaces import Layouts, layouts_of


_MISSING = (
    "`KheperaxTask` needs kheperax, which cannot be imported: "
    '`pip install "realax[kheperax]"` brings it.'
)


def position(env_state: Tree, info: Tree) -> Float[Array, "2"]:
    """Return where the robot of a `KheperaxTask` is: `(x, y)`."""
    del info
    return env_state["posture"][:2]


class KheperaxTask(EnvTask[Params]):
    """The return of a robot with two wheels in a maze, for quality diversity.

    The package kheperax moves the robot, which starts every episode at the same place.
    Its observations are three distances that lasers measure, to the right, ahead and to
    the left, and two bumpers, which are 1 if they touch a wall and -1 if not. Its
    actions are the speeds of the left and of the right wheel, clipped to `[-1, 1]`.
    kheperax's own policies end in a tanh.

    A robot that touches a wall stays there: it neither moves nor turns until the
    episode ends, and rewards go on.

    The return is kheperax's own fitness. Without `target` it is minus the sum of the
    squared wheel speeds, of which the largest is 0.025. With `target` it is minus the
    sum of the distances to the target after each step, and the episode ends when the
    robot is there.

    The `descriptor` in the aux is by default the position `(x, y)` at the episode's
    end, for an archive with the `descriptor_bounds`. kheperax's own scoring function
    takes the position one step earlier. For another descriptor, `env_state["posture"]`
    is `(x, y, angle)`.

    **Arguments:**

    - `maze`: the map: `"standard"`, `"pointmaze"` or `"snake"`, or another one that was
        registered in kheperax.
    - `target`: whether the robot shall reach the map's target.
    - `max_steps`: the longest episode, in steps. The default of 250 is the one that
        kheperax documents; the one in its code, which `None` stands for, is 1000.
    - `model_factory`, `data_fn`, `descriptor`, `lanes`, `chunk`, `normalize_obs`,
        `flatten_obs`: as for every `EnvTask`. There is no descriptor with a `data_fn`.
    - `env_kwargs`: kheperax's own settings by name: `action_scale`, `laser_angles`,
        `laser_ranges`, `lasers_return_minus_one_if_out_of_range`, `radius`,
        `std_noise_sensor_measures`, `std_noise_wheel_velocities`, and with `target`
        also `target_pos` and `target_radius`.

    **Raises:** `ImportError`, which names the remedy, if kheperax is missing;
    `ValueError` with the closest matches for an unknown maze or setting.
    """

    maze: str = eqx.field(static=True)
    target: bool = eqx.field(static=True)

    @arguments(maze=text, target=flag, **ENV_CHECKS)
    def __init__(
        self,
        maze: str = "standard",
        target: bool = False,
        max_steps: SupportsIndex | None = 250,
        model_factory: Callable[[Any], Any] = identity,
        data_fn: Callable[[Trajectory], Tree] | None = None,
        **options: Unpack[EnvOptions],
    ):
        self.maze = maze
        self.target = target
        suite = _build(maze, target, constructor_kwargs(maze, options))
        if max_steps is None:
            max_steps = suite.horizon
        if data_fn is None and options.get("descriptor") is None:
            options["descriptor"] = LastOf(position)
        super().__init__(suite.layouts, max_steps, model_factory, data_fn, options)

    def environment(self) -> Environment:
        """Return the environment in `jax-envelope`'s form."""
        return self._suite.environment

    @property
    def descriptor_bounds(self) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
        """The corners of the maze, `(0, 0)` and `(1, 1)`, for the bounds of archives.

        A robot may stop up to 0.01 beyond them, at the wall that it touches.
        """
        lower, upper = self._suite.bounds
        return jnp.asarray(lower, float), jnp.asarray(upper, float)

    @property
    def _suite(self) -> "_Suite":
        return _build(self.maze, self.target, self.env_kwargs)

    def _stopped(self, environment: Any) -> str | None:
        del environment
        return "the derivatives of kheperax's lasers are NaN."


class _Suite(NamedTuple):
    environment: Environment
    layouts: Layouts
    bounds: tuple[tuple[float, float], tuple[float, float]]
    horizon: int


@cached
def _build(maze: str, target: bool, kws: Frozen) -> _Suite:
    try:
        from ._kheperax_adapter import make_kheperax
    except ImportError as error:
        raise ImportError(_MISSING) from error
    # Computed at once even under jit, because the cache must not keep tracers.
    with jax.ensure_compile_time_eval():
        environment = make_kheperax(maze, target, kws.thaw())
        config = environment.suite.kheperax_config
        layouts = layouts_of(environment)
        return _Suite(environment, layouts, config.limits, config.episode_length)
