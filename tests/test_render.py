"""Files of episodes: they show the episode that is scored, and need no network."""

import base64
import json
import pathlib
import re
import zlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import PIL.Image
import pytest
from envelope import Continuous, Environment, InfoContainer

import realax as rx
from realax.tasks._render import Artist
from realax.tasks._render_brax import _three  # pyright: ignore[reportPrivateUsage]
from realax.tasks.rl_policy import BasePolicy


class Dice(BasePolicy[None]):
    """Random outputs from the step's own key."""

    dims: int = eqx.field(static=True)

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return jr.normal(key, (self.dims,)), None


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: Any) -> Any:
    """A brax task, an episode's key, and the page that shows it."""
    task, key = rx.BraxTask("inverted_pendulum", 40, backend="generalized"), jr.key(2)
    path = tmp_path_factory.mktemp("pages") / "new" / "pendulum.html"
    assert task.render(Dice(1), key, str(path)) == path
    return task, key, path.read_text("utf-8")


@pytest.mark.filterwarnings("ignore:Brax System:UserWarning")
def test_brax_shows_the_episode(pendulum: Any) -> None:
    task, key, page = pendulum
    packed = re.search(r"atob\('([\w+/=]+)'\)", page)
    assert packed is not None
    episode = json.loads(zlib.decompress(base64.b64decode(packed[1])))
    frames = episode["states"]["x"]
    length = len(frames) - 1
    assert 1 < length < task.max_steps

    import brax.envs  # after realax has imported it, without its warnings

    env = brax.envs.get_environment("inverted_pendulum", backend="generalized")
    assert np.isclose(episode["opt"]["timestep"], env.dt)
    env_key, _, policy_key = jr.split(key, 3)
    state, step = jax.jit(env.reset)(env_key), jax.jit(env.step)
    for t, frame in enumerate(frames):
        links: Any = state.pipeline_state
        assert np.allclose(frame["pos"], links.x.pos, atol=1e-4), t
        assert np.allclose(frame["rot"], links.x.rot, atol=1e-4), t
        output = jr.normal(jr.fold_in(policy_key, t), (1,))
        state = step(state, jnp.clip(output, -1, 1))
        assert bool(state.done) == (t + 1 >= length), t


def test_brax_needs_no_network(pendulum: Any) -> None:
    page = pendulum[-1]
    own = page.replace(_three(), "")
    assert len(page) - len(own) > 400_000 and "Three.js Authors" in page
    assert "class Viewer {" in own and "<title>InvertedPendulum</title>" in own
    assert "//" not in re.sub(r"\s//.*", "", own)  # no address, but comments
    assert not re.search(r"(?m)^\s*(import|export)\b|\bimport\(|fetch\(|\{\{", own)
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*>", page) == [
        '<link rel="icon" href="data:,">',
        "<script>",
        '<script type="module">',
    ]


@pytest.mark.parametrize("name", ["Catch-bsuite", "Pendulum-v1"])
def test_gymnax(name: str, tmp_path: pathlib.Path) -> None:
    if name == "Pendulum-v1":
        pytest.importorskip("pygame")
    task, key = rx.GymnaxTask(name, 5), jr.key(0)
    path = task.render(Dice(task.space.action_dims), key, tmp_path / "episode.gif")
    with PIL.Image.open(path) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("GIF", 6)
        first = np.asarray(image.convert("L"))
        image.seek(5)
        last = np.asarray(image.convert("L"))
    below = first.shape[0] // 5  # the title, which counts frames
    assert np.any(first[below:] != last[below:])


class Walk(Environment):
    """A walk on a line to 2.0, in steps of 0.5."""

    def init(self, key: Any) -> Any:
        return jnp.zeros(()), InfoContainer(
            obs=jnp.zeros(1), reward=0.0, terminated=False
        )

    def step(self, state: Any, action: Any) -> Any:
        state = state + 0.5
        return state, InfoContainer(
            obs=state[None], reward=3.0, terminated=state >= 2.0
        )

    @property
    def observation_space(self) -> Any:
        return Continuous.from_shape(-jnp.inf, jnp.inf, (1,))

    @property
    def action_space(self) -> Any:
        return Continuous.from_shape(-1.0, 1.0, (1,))


def _twice(state: Any) -> Any:
    return {"twice": 2 * state}


def _as_json(looks: Any, returns: Any) -> bytes:
    numbers = [look["twice"].tolist() for look in looks]
    return json.dumps([numbers, returns.tolist()]).encode()


class WrittenTask(rx.EnvelopeTask[Any]):
    """Episodes that are written down instead of drawn."""

    def artist(self) -> Artist:
        return Artist(".json", _twice, _as_json)


@pytest.mark.parametrize("max_steps", [3, 4, 9])
def test_frames(max_steps: int, tmp_path: pathlib.Path) -> None:
    """One frame before the first step, and one after each until the end."""
    steps = min(max_steps, 4)
    task = WrittenTask(Walk(), max_steps)
    path = task.render(Dice(1), jr.key(0), tmp_path / "walk.json")
    looks, returns = json.loads(path.read_text())
    assert looks == list(range(steps + 1))
    assert returns == [3 * t for t in range(steps + 1)]


def test_what_cannot_be_drawn(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file.gif"
    with pytest.raises(ValueError, match="environments of brax, and of gymnax Acrobot"):
        rx.make(Walk(), max_steps=3).render(Dice(1), jr.key(0), path)
    with pytest.raises(ValueError, match="cannot draw 'SimpleBandit-bsuite'"):
        task = rx.GymnaxTask("SimpleBandit-bsuite", 3)
        task.render(Dice(11), jr.key(0), path)
    with pytest.raises(ValueError, match="Fast has none"):
        rx.BraxTask("fast").render(Dice(1), jr.key(0), path)
    assert not path.exists()


def test_paths(tmp_path: pathlib.Path) -> None:
    task = WrittenTask(Walk(), 3)
    with pytest.raises(ValueError, match=r"end in '.json'.* Choose '.*walk.json'"):
        task.render(Dice(1), jr.key(0), tmp_path / "walk.html")
    with pytest.raises(TypeError, match="`path` of `WrittenTask.render` must be a"):
        task.render(Dice(1), jr.key(0), 3)  # pyright: ignore[reportArgumentType]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="`path` could not be written"):
        task.render(Dice(1), jr.key(0), tmp_path / "file" / "walk.json")
    (tmp_path / "walk.json").mkdir()
    with pytest.raises(OSError, match="A folder is where a file should be"):
        task.render(Dice(1), jr.key(0), tmp_path / "walk.json")


def test_not_under_a_trace(tmp_path: pathlib.Path) -> None:
    task, path = WrittenTask(Walk(), 3), tmp_path / "walk.json"

    def draw(key: Any) -> Any:
        task.render(Dice(1), key, path)
        return key

    for traced, key in (
        (jax.jit(draw), jr.key(0)),
        (jax.vmap(draw), jr.split(jr.key(0))),
    ):
        with pytest.raises(RuntimeError, match="outside of them"):
            traced(key)
    with pytest.raises(TypeError, match="`key` must be a key"):
        task.render(Dice(1), 0, path)  # pyright: ignore[reportArgumentType]
