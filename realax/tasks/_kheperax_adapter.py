"""kheperax's maze robot as an environment of `jax-envelope`. Imports kheperax."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, override

import jax
import jax.numpy as jnp
import jax.random as jr
from envelope import Continuous, Environment, InfoContainer, Space
from envelope.struct import static_field
from jaxtyping import Array
from kheperax.envs.kheperax_state import KheperaxState
from kheperax.envs.maze_maps import KHEPERAX_MAZES
from kheperax.simu.geoms import Pos
from kheperax.simu.laser import Laser
from kheperax.simu.posture import Posture
from kheperax.simu.robot import Robot
from kheperax.tasks.config import KheperaxConfig
from kheperax.tasks.main import KheperaxTask
from kheperax.tasks.target import TargetKheperaxConfig, TargetKheperaxTask

from .._errors import closest
from .._types import PRNGKeyArray


# The settings of kheperax that `env_kwargs` may change.
_TASK = ("action_scale", "std_noise_wheel_velocities")
_TARGET = ("target_pos", "target_radius")
_ROBOT = (
    "laser_angles",
    "laser_ranges",
    "lasers_return_minus_one_if_out_of_range",
    "radius",
    "std_noise_sensor_measures",
)


class MazeRobot(Robot):
    """kheperax's robot, with lasers that do not call what jax has removed."""

    @override
    def laser_measures(self, maze: Any, random_key: PRNGKeyArray) -> Array:
        """Return the distance that each laser measures, with the package's own keys."""
        angles = jnp.asarray(self.laser_angles)
        keys = jr.split(random_key, angles.size + 1)[1:]

        def measure(angle: Any, key: PRNGKeyArray) -> Any:
            start = Pos(self.posture.x, self.posture.y)
            laser = Laser(start, self.posture.angle + angle, self.laser_ranges)
            return laser.get_measure(
                maze.walls,
                self.lasers_return_minus_one_if_out_of_range,
                self.std_noise_sensor_measures,
                key,
            )

        return jax.vmap(measure)(angles, keys)


class KheperaxAdapter(Environment):
    """A robot in a maze that kheperax moves, without kheperax's time limit.

    Its state is a dictionary: `posture` is `(x, y, angle)` of the robot, of shape
    `(3,)`, and `key` is the key of the next step's noise, which is there if there is
    noise.

    **Arguments:**

    - `suite`: a task of kheperax, whose robot is a `MazeRobot`.
    """

    suite: Any = static_field(unsafe=True)

    @override
    def init(self, key: PRNGKeyArray) -> tuple[Any, InfoContainer]:
        return self._shown(self.suite.reset(key))

    @override
    def step(self, state: Any, action: Any) -> tuple[Any, InfoContainer]:
        # A state of its own for each step, because kheperax writes into its `info`. The
        # maze, and a key that draws no noise, are constants: lanes share them.
        config = self.suite.kheperax_config
        x, y, angle = state["posture"]
        before = KheperaxState(
            robot=config.robot.replace(posture=Posture(x, y, angle)),
            maze=config.maze,
            obs=None,
            reward=0.0,
            done=False,
            random_key=state.get("key", jr.key(0)),
        )
        return self._shown(self.suite.step(before, action))

    def _shown(self, after: Any) -> tuple[Any, InfoContainer]:
        posture = after.robot.posture
        state = {"posture": jnp.stack([posture.x, posture.y, posture.angle])}
        if self._noisy:
            state["key"] = after.random_key
        return state, InfoContainer(
            obs=after.obs, reward=after.reward, terminated=after.done
        )

    @property
    def _noisy(self) -> bool:
        config = self.suite.kheperax_config
        sensors = config.robot.std_noise_sensor_measures
        return bool(config.std_noise_wheel_velocities or sensors)

    @functools.cached_property
    @override
    def observation_space(self) -> Space:
        robot = self.suite.kheperax_config.robot
        float_ = jnp.result_type(float)
        lasers = jnp.full(robot.laser_angles.size, robot.laser_ranges, float_)
        nothing = -1.0 if robot.lasers_return_minus_one_if_out_of_range else 0.0
        bumpers = jnp.ones(2, float_)
        return Continuous(
            low=jnp.concatenate([jnp.full_like(lasers, nothing), -bumpers]),
            high=jnp.concatenate([lasers, bumpers]),
        )

    @functools.cached_property
    @override
    def action_space(self) -> Space:
        ones = jnp.ones(2, jnp.result_type(float))
        return Continuous(low=-ones, high=ones)


def make_kheperax(
    maze: str, target: bool, settings: Mapping[str, Any]
) -> KheperaxAdapter:
    """Make the environment of a maze.

    **Arguments:**

    - `maze`: one of kheperax's names.
    - `target`: whether the robot shall reach the maze's target.
    - `settings`: values for some of kheperax's settings.

    **Raises:** `ValueError` with the closest matches for an unknown maze or setting.
    """
    if maze not in KHEPERAX_MAZES:
        raise ValueError(
            f"`maze` must be a map of kheperax, but got {maze!r}. "
            f"{closest(maze, KHEPERAX_MAZES)}"
        )
    known = (*_TASK, *_ROBOT, *(_TARGET if target else ()))
    for name in settings:
        if name not in known:
            raise ValueError(
                f"`env_kwargs` of `KheperaxTask` have no {name!r}. "
                f"{closest(name, known)}"
            )
    config_class = TargetKheperaxConfig if target else KheperaxConfig
    task_class = TargetKheperaxTask if target else KheperaxTask
    config = config_class.get_default_for_map(maze)
    robot = config.robot
    fields = {f.name: getattr(robot, f.name) for f in dataclasses.fields(robot)}
    fields |= {name: settings[name] for name in settings if name in _ROBOT}
    start = robot.posture
    # In the default precision, because kheperax's random numbers are.
    x, y, angle = jnp.asarray([start.x, start.y, start.angle], float)
    fields["posture"] = Posture(x, y, angle)
    fields["laser_angles"] = jnp.ravel(jnp.asarray(fields["laser_angles"], float))
    others = {name: settings[name] for name in settings if name not in _ROBOT}
    return KheperaxAdapter(
        task_class(dataclasses.replace(config, robot=MazeRobot(**fields), **others))
    )
