"""Small environments of gymnasium, for tests."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Walk(gymnasium.Env[Any, Any]):
    """Walks on a line; the episode ends at its end, or after a step drawn by the seed.

    - `leaky`: whether an episode depends on those before it.
    """

    leaky = False

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-10, 10, (2,), np.float32)
        self.action_space = spaces.Discrete(3, start=-1)
        self.before = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        assert type(seed) is int
        self.place = np.array([self.np_random.normal(), 0.0], np.float32)
        self.place[0] += self.leaky * self.before
        self.left = int(self.np_random.integers(3, 9))
        self.before += 1
        return self.place.copy(), {}

    def step(self, action: Any) -> Any:
        assert action in (-1, 0, 1)
        self.left -= 1
        self.place += np.array([0.3 * action, 1.0], np.float32)
        reward = float(self.place[0])
        return self.place.copy(), reward, self.left == 0, abs(reward) > 5, {}


class Leaky(Walk):
    """A walk whose episodes depend on those before them."""

    leaky = True


class Mixed(Walk):
    """A walk with a dictionary of observations, and a tuple of actions."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Dict(
            {
                "walk": spaces.Box(-10, 10, (2,), np.float64),
                "lamp": spaces.Discrete(3, start=5),
                "bits": spaces.MultiBinary(2),
            }
        )
        self.action_space = spaces.Tuple(
            (
                spaces.MultiDiscrete([2, 3], start=np.array([1, 4])),
                spaces.Box(-1.0, 1.0, (2,), np.float32),
            )
        )

    def _seen(self) -> Any:
        walk = self.place.astype(np.float64)
        return {"walk": walk, "lamp": np.int64(5 + self.left % 3), "bits": [1, 0]}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        choice, push = action
        assert self.action_space.contains((choice, push)), action
        _, reward, terminated, truncated, _ = super().step(int(choice[0]) - 1)
        reward += float(push.sum()) + float(choice[1])
        return self._seen(), reward, terminated, truncated, {}


class Pair(Walk):
    """A walk of two agents."""

    def step(self, action: Any) -> Any:
        *_, obs, reward, terminated, truncated, info = super().step(action)
        return obs, np.array([reward, reward]), terminated, truncated, info


class Images(Walk):
    """Sees large images."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (96, 96, 3), np.uint8)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.full((96, 96, 3), 7, np.uint8), {}

    def step(self, action: Any) -> Any:
        _, *others = super().step(action)
        return np.full((96, 96, 3), 7, np.uint8), *others


class Whole(Walk):
    """Begins with whole numbers, of another type than its space."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.array([0, 0]), {}


class Shapes(Walk):
    """Returns an observation of another shape in some of its episodes."""

    def step(self, action: Any) -> Any:
        obs, *others = super().step(action)
        return (obs[:1] if self.left == 4 else obs), *others


class Breaks(Walk):
    """Fails in some of its episodes."""

    def step(self, action: Any) -> Any:
        if self.left == 5:
            raise ArithmeticError("broken")
        return super().step(action)
