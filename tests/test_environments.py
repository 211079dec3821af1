"""Rollouts: what is counted, where keys come from, and what is refused."""

import dataclasses
import itertools
import warnings
from typing import Any

import envelope
import equinox as eqx
import gymnax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from gymnax.environments.classic_control.cartpole import CartPole
from jax._src.dispatch import runtime_tokens

import realax as rx
from realax.tasks._spaces import layout_of
from realax.tasks.rl_policy import BasePolicy

from .helpers import close, compilations, same


class Noisy(BasePolicy[Any]):
    """Random actions, and a state that counts."""

    dims: int = eqx.field(static=True)

    def initialize(self, key: Any) -> Any:
        return jr.uniform(key)

    def __call__(self, obs: Any, state: Any, key: Any) -> Any:
        return jr.normal(key, (self.dims,)) + state, state + 1


def by_hand(name: str, policy: Any, key: Any, steps: int) -> Any:
    """An episode in a Python loop over gymnax's own interface."""
    env, params = gymnax.make(name)
    env_key, init_key, policy_key = jr.split(key, 3)
    reset_key, step_key = jr.split(env_key)
    obs, state = env.reset_env(reset_key, params)
    memory, total, rows = policy.initialize(init_key), 0.0, []
    for t in range(steps):
        output, memory = policy(jnp.ravel(obs), memory, jr.fold_in(policy_key, t))
        space = env.action_space(params)
        if isinstance(space, gymnax.environments.spaces.Discrete):
            action = jnp.argmax(output)
        else:
            action = jnp.clip(output, space.low, space.high)
        before = jnp.ravel(obs)
        obs, state, reward, terminated, _ = env.step_env(
            jr.fold_in(step_key, t), state, action, params
        )
        truncated = env.is_truncated(state, params)
        rows.append((before, action, reward, terminated, truncated))
        total += reward
        if terminated or truncated:
            break
    return total, rows


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Catch-bsuite"])
def test_gymnax_by_hand(name: str) -> None:
    task = rx.GymnaxTask(name)
    policy = Noisy(task.space.action_dims)
    key = jr.key(3)
    total, rows = by_hand(name, policy, key, task.max_steps)
    value, aux = task(policy, key)
    assert close(value, total, rtol=1e-5)
    assert int(aux["length"]) == len(rows)
    episode = task.rollout(policy, key)
    assert int(episode.valid.sum()) == len(rows)
    for t, (obs, action, reward, terminated, truncated) in enumerate(rows):
        assert close(episode.obs[t], obs, rtol=1e-3, atol=1e-4)
        assert close(episode.action[t], action, rtol=1e-3, atol=1e-4)
        assert close(episode.reward[t], reward, rtol=1e-3, atol=1e-4)
        assert bool(episode.terminated[t]) == bool(terminated)
        assert bool(episode.truncated[t]) == bool(truncated)
    assert close(episode.reward.sum(), value, rtol=1e-5)


def test_nothing_counts_after_the_end() -> None:
    task = rx.GymnaxTask("CartPole-v1")
    episode = task.rollout(Noisy(2), jr.key(0))
    length = int(episode.valid.sum())
    assert 0 < length < task.max_steps
    assert episode.valid.tolist() == [True] * length + [False] * (500 - length)
    rest = jax.tree.map(lambda x: x[length:], episode)
    assert not any(bool(jnp.any(leaf)) for leaf in jax.tree.leaves(rest))
    assert int(episode.terminated.sum()) == 1 and bool(episode.terminated[length - 1])


def test_horizons() -> None:
    task = rx.GymnaxTask("Pendulum-v1", max_steps=7)
    episode = task.rollout(Noisy(1), jr.key(0))
    assert episode.reward.shape == (7,) and bool(jnp.all(episode.valid))
    assert episode.truncated.tolist() == [False] * 6 + [True]
    assert not bool(jnp.any(episode.terminated))
    assert rx.GymnaxTask("CartPole-v1").max_steps == 500
    longer = gymnax.make("CartPole-v1")[1].replace(max_steps_in_episode=900)
    assert rx.GymnaxTask("CartPole-v1", env_params=longer).max_steps == 900


def _one(population: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i] if eqx.is_array(x) else x, population)


def test_a_population_is_its_individuals() -> None:
    task = rx.GymnaxTask("CartPole-v1", max_steps=50)
    keys = jr.split(jr.key(1), (4, 3))
    make = lambda key: rx.MLPPolicy(4, 2, 8, 1, key=key)
    population = eqx.filter_vmap(make)(jr.split(jr.key(0), 4))
    policies = [_one(population, i) for i in range(4)]
    values, aux = eqx.filter_jit(task.evaluate)(population, keys)
    assert values.shape == (4, 3) and aux["length"].shape == (4, 3)
    single = eqx.filter_jit(task)
    for i, policy in enumerate(policies):
        for r in range(3):
            value, _ = single(policy, keys[i, r])
            assert value == values[i, r]


def test_data_fn_and_model_factory() -> None:
    task = rx.GymnaxTask(
        "CartPole-v1",
        max_steps=20,
        model_factory=lambda bias: _Lean(bias),
        data_fn=lambda episode: episode.obs[:, 2],
    )
    value, angle = task(jnp.asarray([0.0, 1.0]), jr.key(0))
    assert angle.shape == (20,) and value > 0
    trainer = rx.EvosaxTrainer(3, "SNES", task, jnp.zeros(2), popsize=4, eval_reps=2)
    _, data = trainer.init_and_train(jr.key(0))
    assert data["metrics"]["eval_data"].shape == (3, 4, 2, 20)


class _Lean(BasePolicy[None]):
    bias: Any

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return self.bias * obs[2], None


def test_data_fn_of_a_population_on_brax() -> None:
    """Each individual's aux is what `data_fn` makes of its own episodes."""
    end = lambda episode: (episode.reward.sum(), episode.obs[episode.valid.sum() - 1])
    task = rx.BraxTask("inverted_pendulum", 40, data_fn=end, backend="spring")
    keys = jr.split(jr.key(1), (3, 2))
    make = lambda key: rx.MLPPolicy(4, 1, 8, 1, key=key)
    population = eqx.filter_vmap(make)(jr.split(jr.key(0), 3))
    policies = [_one(population, i) for i in range(3)]
    values, (returns, last) = eqx.filter_jit(task.evaluate)(population, keys)
    assert values.shape == returns.shape == (3, 2) and last.shape == (3, 2, 4)
    play = eqx.filter_jit(task.rollout)
    for i, policy in enumerate(policies):
        for r in range(2):
            episode = play(policy, keys[i, r])
            length = int(episode.valid.sum())
            assert length < 40, "what lies after the end is there, to be left out"
            assert close(values[i, r], episode.reward.sum())
            assert close(returns[i, r], episode.reward.sum())
            assert close(last[i, r], episode.obs[length - 1], rtol=1e-3, atol=1e-3)


def test_data_fn_keeps_only_what_it_returns() -> None:
    pop, reps, steps = 32, 4, 500
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    arrays, static = eqx.partition(policy, eqx.is_array)
    population = jax.tree.map(lambda leaf: jnp.stack([leaf] * pop), arrays)
    keys = jr.split(jr.key(1), (pop, reps))

    def memory(data_fn: Any) -> Any:
        task = rx.GymnaxTask("CartPole-v1", steps, data_fn=data_fn)
        play = lambda arrays, keys: task.evaluate(eqx.combine(arrays, static), keys)
        sizes = jax.jit(play).lower(population, keys).compile().memory_analysis()
        return sizes.output_size_in_bytes, sizes.temp_size_in_bytes

    output, temporary = memory(lambda episode: episode.reward.sum())
    all_output, all_temporary = memory(lambda episode: episode)
    assert output < 10 * pop * reps
    # Five numbers and the action, four bytes each, and three booleans.
    row = 6 * 4 + 3
    assert all_output >= pop * reps * steps * row
    # The rewards are stacked, to be summed, and nothing else is.
    assert output + temporary < 2 * 4 * pop * reps * steps
    assert output + temporary < 0.2 * (all_output + all_temporary)


def test_environment_parameters_are_leaves() -> None:
    task = rx.GymnaxTask("CartPole-v1", max_steps=100)
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))

    def play(force: Any) -> Any:
        changed = eqx.tree_at(lambda t: t.env_params.force_mag, task, force)
        return changed.rollout(policy, jr.key(0)).obs[3]

    weak, strong = jax.jit(jax.vmap(play))(jnp.asarray([1.0, 20.0]))
    assert not close(weak, strong)
    assert close(weak, jax.jit(play)(jnp.asarray(1.0)))


def test_environment_parameters_in_part() -> None:
    task = rx.GymnaxTask("CartPole-v1", env_params={"gravity": 1.0})
    assert float(task.env_params.gravity) == 1 and task.max_steps == 500
    with pytest.raises(ValueError, match="'gravity'"):
        rx.GymnaxTask("CartPole-v1", env_params={"gravitation": 1.0})
    with pytest.raises(TypeError, match="a mapping or EnvParams"):
        rx.GymnaxTask("CartPole-v1", env_params=3.0)


def test_nothing_traced_leaks() -> None:
    class Count(BasePolicy[Any]):
        """Its state changes type at first, so that the step is traced twice."""

        def initialize(self, key: Any) -> Any:
            return 0

        def __call__(self, obs: Any, state: Any, key: Any) -> Any:
            return obs[:1], state + obs[0]

    task = rx.GymnaxTask("Pendulum-v1", max_steps=3)
    with jax.checking_leaks():
        task(Count(), jr.key(0))
        eqx.filter_jit(lambda task, key: task(Count(), key))(task, jr.key(0))


def test_instances() -> None:
    class Heavy(CartPole):
        @property
        def default_params(self) -> Any:
            return super().default_params.replace(masspole=5.0)

    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    plain = rx.GymnaxTask(CartPole()).rollout(policy, jr.key(0))
    assert same(plain, rx.GymnaxTask("CartPole-v1").rollout(policy, jr.key(0)))
    assert not same(plain, rx.GymnaxTask(Heavy()).rollout(policy, jr.key(0)))


def test_equal_tasks_share_a_program() -> None:
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    play = eqx.filter_jit(lambda task, key: task(policy, key))
    play(rx.GymnaxTask("CartPole-v1", max_steps=11), jr.key(0))
    with compilations() as names:
        play(rx.GymnaxTask("CartPole-v1", max_steps=11), jr.key(1))
    assert names == []


class Tabular(BasePolicy[None]):
    """A policy with numbers in a static field, which may have no hash."""

    table: Any = eqx.field(static=True)

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return jnp.asarray(self.table) * obs[2], state


def test_an_episode_is_compiled_once() -> None:
    """Outside of `jit` too: to play one on brax took seconds in each call."""
    task = rx.GymnaxTask("CartPole-v1", max_steps=11)
    first, second = (rx.MLPPolicy(4, 2, 3, 1, key=jr.key(i)) for i in range(2))
    population = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, first)
    with compilations() as names:
        found = [task(one, jr.key(i)) for one in (first, second) for i in range(3)]
        for i in range(3):
            task.evaluate(population, jr.key(i)[None, None])
            task.rollout(second, jr.key(i))
    played = [name for name in names if "(_" in name]
    assert played == ["jit(_played)", "jit(_evaluated)", "jit(_rolled_out)"]
    assert same(found[-1], eqx.filter_jit(task)(second, jr.key(2)))
    assert same(task.evaluate(population, jr.key(0)[None, None])[0][0, 0], found[0][0])


@pytest.mark.filterwarnings("ignore:A JAX array is being set as static")
def test_a_policy_without_a_hash() -> None:
    """It is compiled in each call, also after its numbers were changed in place."""
    task = rx.GymnaxTask("CartPole-v1", max_steps=11)
    key, tables = jr.key(0), [(-1.0, 1.0), (1.0, -1.0)]
    expected = [task(Tabular(table), key) for table in tables]
    assert not same(*(task.rollout(Tabular(table), key).action for table in tables))
    changed = np.zeros(2, np.float32)
    for table, one in zip(tables, expected, strict=True):
        changed[:] = table
        for kind in list, np.asarray:
            assert same(task(Tabular(kind(table)), key), one)
        assert same(task(Tabular(changed), key), one)
    held = Tabular(changed)
    changed[:] = tables[0]
    assert same(task(held, key), expected[0])


def test_what_a_call_gets_besides() -> None:
    """Data reach a `__call__` of one's own, and `data_fn` gets arrays with values."""

    class Weighted(rx.GymnaxTask[Any]):
        def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
            value, aux = super().__call__(params, key)
            return value * data, aux

    policy = rx.MLPPolicy(4, 2, 3, 1, key=jr.key(0))
    population = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, policy)
    task = Weighted("CartPole-v1", max_steps=3, lanes=0)
    values, _ = task.evaluate(population, jr.key(0)[None, None], jnp.asarray(2.0))
    assert float(values[0, 0]) == 6
    seen = rx.GymnaxTask(
        "CartPole-v1", max_steps=3, data_fn=lambda rows: float(rows.reward.sum())
    )
    assert seen(policy, jr.key(0)) == (3, 3.0)


def test_built_under_jit() -> None:
    @jax.jit
    def play(key: Any) -> Any:
        return rx.GymnaxTask("MountainCarContinuous-v0", max_steps=5, env_kwargs={})(
            rx.MLPPolicy(2, 1, 8, 1, key=key), key
        )[0]

    play(jr.key(0))
    # What was built under jit and cached holds no tracers.
    task = rx.GymnaxTask("MountainCarContinuous-v0", max_steps=5, env_kwargs={})
    assert jnp.isfinite(task(rx.MLPPolicy(2, 1, 8, 1, key=jr.key(0)), jr.key(0))[0])


def test_spaces() -> None:
    assert rx.ENV_SPACES["CartPole-v1"] == (4, 2, True)
    assert rx.ENV_SPACES["Pendulum-v1"] == (3, 1, False)
    assert rx.ENV_SPACES["FrozenLake-misc"] == (16, 4, True)  # one-hot
    assert rx.ENV_SPACES["Catch-bsuite"] == (50, 3, True)  # flattened
    space = rx.ENV_SPACES["reacher"]
    assert (space.obs_dims, space.action_dims, space.discrete) == (11, 2, False)
    assert "CartPole-v1" in rx.ENV_SPACES and len(rx.ENV_SPACES) == 38
    with pytest.raises(KeyError, match="'CartPole-v1'"):
        rx.ENV_SPACES["CartPole-v2"]


def test_one_policy_class_for_both_kinds_of_actions() -> None:
    for name in ("CartPole-v1", "Pendulum-v1"):
        task = rx.GymnaxTask(name, max_steps=10)
        policy = rx.MLPPolicy(*task.space[:2], 8, 1, key=jr.key(0))
        action = task.rollout(policy, jr.key(0)).action
        assert jnp.issubdtype(action.dtype, jnp.integer) == task.space.discrete


@pytest.fixture(scope="module")
def pendulum() -> rx.BraxTask[Any]:
    return rx.BraxTask(
        "inverted_pendulum", max_steps=40, data_fn=lambda x: x, backend="spring"
    )


def test_brax_by_hand(pendulum: rx.BraxTask[Any]) -> None:
    import brax.envs

    with pytest.warns(UserWarning, match="not actively being maintained"):
        env = brax.envs.get_environment("inverted_pendulum", backend="spring")
    policy, key = Noisy(1), jr.key(0)
    env_key, init_key, policy_key = jr.split(key, 3)

    def step(carry: Any, t: Any) -> Any:
        state, memory = carry
        output, memory = policy(state.obs, memory, jr.fold_in(policy_key, t))
        after = env.step(state, jnp.clip(output, -1, 1))
        return (after, memory), (state.obs, after.reward, after.done)

    @jax.jit
    def by_hand() -> Any:
        start = env.reset(env_key), policy.initialize(init_key)
        return jax.lax.scan(step, start, jnp.arange(40))[1]

    seen, rewards, done = map(np.asarray, by_hand())
    value, episode = eqx.filter_jit(pendulum)(policy, key)
    length = int(episode.valid.sum())
    assert length == np.argmax(done) + 1 < 40
    found = jax.tree.map(lambda x: np.asarray(x)[:length], episode)
    assert np.allclose(found.reward, rewards[:length], atol=1e-4)
    assert np.allclose(found.obs, seen[:length], atol=1e-3)
    assert close(value, np.sum(rewards[:length]))


def test_brax_is_compiled_in_its_own_way(monkeypatch: Any) -> None:
    task = rx.BraxTask("inverted_pendulum", backend="spring")
    if jax.default_backend() != "cpu":
        assert not task.compiler_options
        return
    assert len(task.compiler_options) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # brax is no longer maintained
        import brax.envs

        instance = brax.envs.get_environment("inverted_pendulum", backend="mjx")
    assert not rx.BraxTask(instance).compiler_options
    assert not rx.BraxTask("inverted_pendulum", backend="mjx").compiler_options
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=dot")
    assert not task.compiler_options, "the user's own word on it holds"


def test_brax_gradient_is_finite() -> None:
    policy = rx.MLPPolicy(4, 1, 4, 1, key=jr.key(0))
    short = rx.BraxTask("inverted_pendulum", max_steps=3, backend="positional")
    arrays, static = eqx.partition(policy, eqx.is_inexact_array)
    play = lambda arrays: short(eqx.combine(arrays, static), jr.key(0))[0]
    gradient = jax.jit(jax.grad(play))(arrays)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


KEY = jr.key(0)


def _cartpole(env_params: Any) -> Any:
    return rx.GymnaxTask("CartPole-v1", env_params=env_params)


@dataclasses.dataclass
class Unhashable(CartPole):
    """Equal by its fields, and so without a hash."""

    mass: float = 1.0


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: rx.GymnaxTask("CartPole"), ValueError, "'CartPole-v1'"),
        (lambda: rx.BraxTask("antt"), ValueError, "'ant'"),
        (lambda: rx.BraxTask("ant", backend="newton"), ValueError, "'spring'"),
        (lambda: rx.GymnaxTask("CartPole-v1", max_steps=0), ValueError, "at least 1"),
        (lambda: rx.BraxTask("ant", max_steps=0), ValueError, "at least 1"),
        (lambda: rx.GymnaxTask("CartPole-v1", 501), ValueError, "max_steps_in_episode"),
        (lambda: rx.GymnaxTask(CartPole(), env_kwargs={"a": 1}), ValueError, "name"),
        (lambda: rx.GymnaxTask(5), TypeError, "a gymnax environment, but got 5"),
        (lambda: rx.GymnaxTask(CartPole), TypeError, r"class `CartPole`.*`CartPole\("),
        (lambda: rx.make(CartPole), TypeError, r"`env` of `make`.*class `CartPole`"),
        (lambda: rx.BraxTask(rx.tasks.BraxEnv), TypeError, "the class `BraxEnv`"),
        (lambda: rx.EnvelopeTask(Unhashable, 5), TypeError, "the class `Unhashable`"),
        (lambda: rx.GymnaxTask("CartPole-v1", "9"), TypeError, "`max_steps` of `Gym"),
        (lambda: rx.GymnaxTask("CartPole-v1", 9.5), TypeError, "whole number"),
        (lambda: rx.GymnaxTask("CartPole-v1", True), TypeError, "got True"),
        (lambda: rx.make("CartPole-v1", lanes=False), TypeError, "`lanes` of `Gymnax"),
        (lambda: rx.make("CartPole-v1", normalize_obs=1), TypeError, "True or False"),
        (lambda: rx.make("CartPole-v1", max_step=9), TypeError, "'max_steps'"),
        (lambda: rx.make("CartPole-v1", data_fn=3), TypeError, "must be a function"),
        (lambda: _cartpole("gravity"), TypeError, "must be a mapping or"),
        (lambda: _cartpole({"gravity": "9"}), TypeError, "'gravity' must be a number"),
        (lambda: _cartpole({"gravity": np.nan}), ValueError, "a number, but got NaN"),
        (lambda: _cartpole({"gravity": None}), TypeError, "'gravity' must be like"),
        (lambda: _cartpole({"gravity": np.ones(3)}), ValueError, r"\(3,\).*jax\.vmap"),
        (lambda: _cartpole({"gravity": [9.0]}), TypeError, "'gravity' must be like"),
        (lambda: rx.BraxTask("ant", env_kwargs="a"), TypeError, "must be a dictionary"),
        (lambda: rx.GymnaxTask(Unhashable()), TypeError, "`env` of.*must be hashable"),
        (
            lambda: rx.EvosaxTrainer(2, "SNES", rx.Minibatch, jnp.zeros(1)),
            TypeError,
            "the class",
        ),
        (lambda: rx.MLPPolicy(4, 2, 8, 1.5, key=KEY), TypeError, "`depth` of `MLPPol"),
        (lambda: rx.MLPPolicy(4, 2, 8, depht=1, key=KEY), TypeError, "'depth'"),
        (lambda: rx.RNNPolicy(4, 2, True, key=KEY), TypeError, "`hidden` of `RNNPol"),
        (lambda: rx.Minibatch(lambda p, k, d: (0.0, None), 0), ValueError, "but got 0"),
    ],
)
def test_wrong_environments(make: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("policy", "error", "words"),
    [
        (rx.MLPPolicy(4, 3, 8, 1, key=jr.key(0)), ValueError, r"\(2,\).*\[3\]"),
        (rx.MLPPolicy(5, 2, 8, 1, key=jr.key(0)), ValueError, "obs_dims=4"),
        (jnp.zeros(3), TypeError, r"but got an array of shape \(3,\).*32\. Pass"),
        (rx.MLPPolicy, TypeError, r"but got the class `MLPPolicy`\. Pass"),
    ],
)
def test_wrong_policies(policy: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        rx.GymnaxTask("CartPole-v1")(policy, jr.key(0))


def test_wrong_results_of_model_factory() -> None:
    def factory(params: Any) -> Any:
        return params, None

    task = rx.GymnaxTask("CartPole-v1", model_factory=factory)
    with pytest.raises(TypeError, match="got a tuple of 2 from `model_factory` `.*fac"):
        task(jnp.zeros(3), jr.key(0))
    with pytest.raises(TypeError, match=r"got an array of shape \(3,\).*32\. Pass"):
        rx.evolve(jnp.ones(3), rx.GymnaxTask("CartPole-v1"), jr.key(0), popsize=4)


class Alone(BasePolicy[None]):
    """Returns its action without a state."""

    scores: Any

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return self.scores


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("lanes", [0, None])
def test_a_policy_that_returns_its_action_alone(normalize: bool, lanes: Any) -> None:
    """Scores of two actions could be taken apart into two."""
    task = rx.GymnaxTask("CartPole-v1", 5, lanes=lanes, normalize_obs=normalize)
    trainer = rx.EvosaxTrainer(1, "SNES", task, Alone(jnp.zeros(2)), popsize=4)
    with pytest.raises(
        TypeError, match=r"`Alone.*pair `\(action, state\)`.*got an arr"
    ):
        trainer.init_and_train_(jr.key(0))


def test_numbers_of_every_kind() -> None:
    task = rx.GymnaxTask(
        "CartPole-v1",
        30.0,
        env_params={"gravity": np.float64(5), "masscart": np.ones((), np.float32)},
        lanes=np.int64(3),
        chunk=2.0,
        normalize_obs=np.bool_(True),
    )
    assert (task.max_steps, task.lanes, task.chunk) == (30, 3, 2)
    assert task.normalize_obs is True and float(task.env_params.gravity) == 5
    assert rx.RNNPolicy(4.0, np.int32(2), 3, key=KEY).head.out_features == 2


def test_an_integer_that_is_no_choice() -> None:
    class Plan(BasePolicy[Any]):
        """Action 0 up to some step, and then another."""

        other: Any
        until: int = eqx.field(static=True, default=3)

        def initialize(self, key: Any) -> Any:
            return jnp.zeros((), jnp.int32)

        def __call__(self, obs: Any, state: Any, key: Any) -> Any:
            late = state >= self.until
            chosen = jnp.where(late, jnp.round(self.other).astype(jnp.int32), 0)
            return chosen, state + 1

    assert float(rx.GymnaxTask("CartPole-v1", 5)(Plan(jnp.ones(())), KEY)[0]) == 5
    keys = jr.split(KEY, (2, 1))
    for lanes in None, 0:
        task = rx.GymnaxTask("CartPole-v1", 5, lanes=lanes)
        plays: list[Any] = [(eqx.filter_jit(task.evaluate), keys, [1.0])]
        if lanes is None:
            plays.append((eqx.filter_jit(task), KEY, []))
        for (play, key, before), number in itertools.product(plays, (2.0, -1.0)):
            plan = Plan(jnp.asarray([*before, number] if before else number))
            with pytest.raises(RuntimeError, match="must be from 0 to 1, but got one"):
                jax.block_until_ready(play(plan, key))
    # What would be played after an episode's end is not played.
    for lanes in 0, 2:
        task = rx.GymnaxTask("CartPole-v1", 3, lanes=lanes)
        many = Plan(jnp.asarray([9.0, 9.0]))
        assert float(task.evaluate(many, jr.split(KEY, (2, 3)))[0].sum()) == 18
    task = rx.GymnaxTask("CartPole-v1", 6)
    trainer = rx.EvosaxTrainer(
        1, "SNES", task, Plan(jnp.asarray(9.0)), popsize=4, n_devices=2
    )
    with pytest.raises(RuntimeError, match="must be from 0 to 1, but got one"):
        jax.block_until_ready(trainer.init_and_train_(KEY))
    runtime_tokens.clear()  # the other device's error, which would come at the end


def test_the_backend_is_the_instances_own() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # brax is no longer maintained
        import brax.envs

        instance = brax.envs.get_environment("inverted_pendulum", backend="spring")
    assert rx.BraxTask(instance).backend == "spring"
    assert rx.BraxTask("inverted_pendulum").backend == "positional"
    with pytest.raises(ValueError, match="got 'positional' beside.*own is 'spring'"):
        rx.BraxTask(instance, backend="positional")
    again = dataclasses.replace(rx.BraxTask(instance), max_steps=5)
    assert (again.max_steps, again.backend, again.env) == (5, "spring", instance)


def test_replaced() -> None:
    kws: Any = {"env_kwargs": {}, "normalize_obs": True, "lanes": 3}
    cartpole = rx.GymnaxTask("CartPole-v1", env_params={"gravity": 5.0}, **kws)
    for task in (
        cartpole,
        rx.BraxTask("fast", backend="spring", **kws),
        rx.EnvelopeTask("gymnax::CartPole-v1", **kws),
    ):
        again = dataclasses.replace(task, max_steps=5)
        assert again.max_steps == 5 and not eqx.tree_equal(again, task)
        assert eqx.tree_equal(
            dataclasses.replace(again, max_steps=task.max_steps), task
        )
    assert float(dataclasses.replace(cartpole, lanes=0).env_params.gravity) == 5
    batches = rx.Minibatch(lambda params, key, data: (0.0, None), 3)
    again = dataclasses.replace(batches, batch_size=7)
    assert (again.batch_size, again.loss_fn) == (7, batches.loss_fn)


def test_what_says_how_to_run_is_marked() -> None:
    for kind in rx.GymnaxTask, rx.BraxTask, rx.EnvelopeTask:
        fields = dataclasses.fields(kind)
        marked = {f.name for f in fields if f.metadata.get("execution")}
        assert marked == {"lanes", "chunk"}


def test_legacy_key() -> None:
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        rx.GymnaxTask("CartPole-v1")(policy, jr.PRNGKey(0))
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        rx.MLPPolicy(4, 2, 8, 1, key=jr.PRNGKey(0))


def test_a_key_that_draws_other_numbers_under_vmap() -> None:
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    population = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, policy)
    key = jr.key(0, impl="rbg")
    task = rx.GymnaxTask("CartPole-v1", lanes=0, normalize_obs=True)
    with pytest.raises(ValueError, match="rbg"):
        task.evaluate_and_observe(population, key[None, None])
    with pytest.raises(ValueError, match="rbg"):
        task(policy, key)


def test_unequal_choices() -> None:
    """Several choices, of 3, 1 and 2 values: scores side by side, one-hots likewise."""
    space = envelope.Discrete(n=jnp.asarray([3, 1, 2]))
    layout = layout_of(space)
    scores = jnp.asarray([0.1, 0.9, 0.2, -5.0, 3.0, 4.0])
    assert layout.size == 6 and layout.discrete
    assert layout.to_action(scores, space).tolist() == [1, 0, 1]
    assert layout.flatten(jnp.asarray([1, 0, 1])).tolist() == [0, 1, 0, 1, 0, 1]
    assert layout.to_action(jnp.asarray([2, 0, 0]), space).tolist() == [2, 0, 0]


def test_nested_spaces() -> None:
    tree = {
        "move": envelope.Continuous.from_shape(-1.0, 1.0, (2,)),
        "jump": envelope.Discrete(n=3),
    }
    space = envelope.PyTreeSpace(tree)
    layout = layout_of(space)
    assert layout.size == 5 and not layout.discrete
    action = layout.to_action(jnp.asarray([0.0, 1.0, 0.5, -3.0, 0.25]), space)
    assert int(action["jump"]) == 1
    assert action["move"].tolist() == [-1.0, 0.25]
    same_action = layout.to_action(action, space)
    assert same(same_action, action)
    with pytest.raises(ValueError, match="float32"):
        layout.to_action({"jump": action["jump"], "move": jnp.zeros(3)}, space)
