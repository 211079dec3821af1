"""What the loop makes sure of: states that fit, steps that count, traces that hide."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import realax as rx
from realax._trees import with_fields

from .helpers import close, rastrigin, same


def _sphere(x: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(x**2), None


def _ones(key: Any) -> Any:
    return jnp.ones(3)


class _State(rx.AbstractState):
    step: Any
    drawn: Any


class _Own(rx.AbstractTrainer[_State, Any, Any]):
    """A trainer of a user's own, that leaves the counting to the loop."""

    train_steps: int
    record: Any = None
    callbacks: Any = eqx.field(converter=rx.Callbacks, default=())
    returns: Any = eqx.field(static=True, default=None)
    objective = ("drawn", "max")

    def initialize(self, key: Any, data: Any = None) -> _State:
        return _State(step=jnp.zeros((), jnp.int32), drawn=jnp.zeros(()))

    def train_step(self, state: _State, key: Any, data: Any = None) -> Any:
        drawn = jr.uniform(key)
        if self.returns is not None:
            return self.returns(state), {"drawn": drawn}
        return _State(state.step, drawn), {"drawn": drawn}

    def params(self, state: _State) -> Any:
        return state.drawn


class _Nothing(rx.AbstractObserver):
    pass


@pytest.mark.parametrize("callbacks", [(), (_Nothing(),)])
def test_the_loop_counts(callbacks: Any) -> None:
    """A step that does not count gets another key each time all the same."""
    state, data = _Own(10, callbacks=callbacks).init_and_train(jr.key(0))
    assert int(state.step) == 10
    assert len(set(data["metrics"]["drawn"].tolist())) == 10


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (lambda s: s.drawn, r"`_Own.train_step` must return .* a _State, but got a"),
        (lambda s: with_fields(s, drawn=jnp.ones(2)), r"float32\[2\] instead of float"),
        (lambda s: with_fields(s, drawn=None), r"`state.drawn` is missing"),
    ],
)
def test_another_state_from_a_step(returns: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        _Own(3, returns=returns).init_and_train_(jr.key(0))


def _cartpole(**kws: Any) -> Any:
    task = rx.GymnaxTask("CartPole-v1", max_steps=20, **kws)
    policy = rx.MLPPolicy(4, 2, 4, 1, key=jr.key(0))
    return rx.EvosaxTrainer(2, "SNES", task, policy, popsize=4)


def _evolve(size: int, strategy: str = "SNES", **kws: Any) -> Any:
    return rx.EvosaxTrainer(2, strategy, rastrigin, jnp.ones(size), popsize=8, **kws)


def _grad(optimizer: Any, **kws: Any) -> Any:
    return rx.OptaxTrainer(2, optimizer, _ones, _sphere, **kws)


@pytest.mark.parametrize("callbacks", [(), (_Nothing(),)])
@pytest.mark.parametrize(
    ("given", "into", "words"),
    [
        (
            _cartpole(),
            _cartpole(normalize_obs=True),
            r"obs_stats\.count` is missing",
        ),
        (_cartpole(normalize_obs=True), _cartpole(), r"count` .* is unexpected"),
        (_grad("adam"), _grad("sgd"), r"`state\.opt_state.*is unexpected"),
        (_grad("sgd"), _grad("adam"), r"`state\.opt_state.*is missing"),
        (_evolve(3), _evolve(4), r"float32\[3\] instead of float32\[4\]"),
        (_evolve(3), _evolve(3, "CMA_ES"), "from `initialize`|`state"),
        (_evolve(3), _grad("adam"), "must be a GradState from .* but got a ESState"),
    ],
)
def test_a_state_of_another_trainer(
    given: Any, into: Any, words: str, callbacks: Any
) -> None:
    state = given.initialize(jr.key(0))
    into = dataclasses.replace(into, callbacks=callbacks)
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        into.train(state, jr.key(0))
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600


def test_a_state_of_an_equal_trainer_fits() -> None:
    """Another activation function of the same kind is no other state."""

    def make() -> Any:
        policy = rx.MLPPolicy(4, 2, 4, 1, activation=lambda x: x, key=jr.key(0))
        task = rx.GymnaxTask("CartPole-v1", max_steps=20)
        return rx.EvosaxTrainer(2, "SNES", task, policy, popsize=4)

    make().train_(make().initialize(jr.key(0)), jr.key(1))


def test_vmap_over_what_an_optimizer_closes_over() -> None:
    def final(rate: Any, **kws: Any) -> Any:
        params, _ = rx.optimize(
            jnp.ones(3),
            _sphere,
            jr.key(0),
            optimizer=optax.adam(rate),
            steps=20,
            use_scan=False,
            **kws,
        )
        return params

    rates = jnp.array([0.01, 0.1])
    expected = jnp.stack([final(float(rate)) for rate in rates])
    assert close(jax.vmap(final)(rates), expected)
    stop = rx.EarlyStopping(target=-1.0)
    assert close(jax.vmap(lambda r: final(r, callbacks=stop))(rates), expected)
    with pytest.raises(RuntimeError, match="outermost trainer"):
        jax.vmap(lambda r: final(r, progress_bar=True))(rates)
    slope = jax.grad(lambda rate: jnp.sum(final(rate)))(0.05)
    step = 1e-3
    numeric = jnp.sum(final(0.05 + step) - final(0.05 - step)) / (2 * step)
    assert np.isclose(slope, numeric, rtol=1e-2)


def test_vmap_over_what_a_task_closes_over() -> None:
    def best(center: Any, **kws: Any) -> Any:
        def task(x: Any, key: Any, data: Any = None) -> Any:
            return jnp.sum((x - center) ** 2), None

        wrapped: Any = functools.partial(jax.jit(task))
        _, state = rx.evolve(
            jnp.zeros(2),
            wrapped,
            jr.key(0),
            strategy="SNES",
            steps=5,
            use_scan=False,
            **kws,
        )
        return state.best_fitness

    centers = jnp.array([1.0, 2.0])
    expected = jnp.stack([best(float(center)) for center in centers])
    assert close(jax.vmap(best)(centers), expected)
    with pytest.raises(RuntimeError, match="outermost trainer"):
        jax.vmap(lambda c: best(c, progress_bar=True))(centers)


def test_vmap_over_what_the_methods_of_a_task_close_over() -> None:
    def best(center: Any) -> Any:
        class Local(rx.AbstractTask[Any]):
            maximize = False

            def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
                return jnp.sum((params - center) ** 2), None

        stop = rx.EarlyStopping(patience=3)
        return rx.optimize(
            jnp.ones(2), Local(), jr.key(0), steps=5, callbacks=stop, use_scan=False
        )[0]

    centers = jnp.array([1.0, 2.0])
    expected = jnp.stack([best(float(center)) for center in centers])
    assert close(jax.vmap(best)(centers), expected)


def test_global_variables_that_are_traced() -> None:
    """A traced array in a place where nobody looks does not end in a riddle."""
    held: dict[str, Any] = {}

    class Hidden:
        def __call__(self, x: Any, key: Any, data: Any = None) -> Any:
            return jnp.sum((x - globals()["_HELD"]["center"]) ** 2), None

    globals()["_HELD"] = held

    def best(center: Any) -> Any:
        held["center"] = center
        trainer = rx.EvosaxTrainer(5, "SNES", Hidden(), jnp.zeros(2))
        return trainer.init_and_train_(jr.key(0)).best_fitness

    assert jax.vmap(best)(jnp.array([1.0, 2.0])).shape == (2,)


def test_grad_through_a_closed_over_model_factory() -> None:
    """In lanes too. The environment is a user's own, with derivatives."""
    from envelope import Continuous, Environment, InfoContainer

    class Slide(Environment):
        def init(self, key: Any) -> Any:
            x = jnp.ones(())
            return x, InfoContainer(obs=x[None], reward=0.0, terminated=False)

        def step(self, state: Any, action: Any) -> Any:
            x = 0.9 * state + 0.1 * action[0]
            return x, InfoContainer(obs=x[None], reward=-(x**2), terminated=False)

        @property
        def observation_space(self) -> Any:
            return Continuous.from_shape(-jnp.inf, jnp.inf, (1,))

        @property
        def action_space(self) -> Any:
            return Continuous.from_shape(-1.0, 1.0, (1,))

    class Linear(rx.BasePolicy[None]):
        gain: Any

        def initialize(self, key: Any) -> None:
            return None

        def __call__(self, obs: Any, state: Any, key: Any) -> Any:
            return self.gain * obs, None

    env = Slide()

    def fitness(gain: Any) -> Any:
        task = rx.EnvelopeTask(env, 5, model_factory=lambda x: Linear(gain + 0 * x))
        trainer = rx.EvosaxTrainer(1, "SNES", task, jnp.zeros(()), popsize=4)
        _, data = trainer.init_and_train(jr.key(0))
        return data["metrics"]["mean_fitness"][0]

    with jax.enable_x64(True):
        slope = jax.grad(fitness)(jnp.asarray(-0.3))
        numeric = (fitness(jnp.asarray(-0.3 + 1e-5)) - fitness(-0.3 - 1e-5)) / 2e-5
    assert abs(float(slope)) > 0.01 and np.isclose(slope, numeric, rtol=1e-4)


def test_a_clock_that_stands_still(monkeypatch: Any) -> None:
    trainer = _evolve(3, callbacks=_Nothing())
    expected = _evolve(3).init_and_train_(jr.key(0))
    monkeypatch.setattr("time.perf_counter", lambda: 1.0)
    assert same(trainer.init_and_train_(jr.key(0)), expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: t.init_and_train(0), "key"),
        (lambda t: t.train("state", jr.key(0)), "`state` of .* must be a state from"),
        (lambda t: t.train(None, jr.key(0)), "`state` of"),
        (lambda t: t.fit_stream(jr.key(0), np.ones((5, 3))), "`batches` .*`list"),
        (lambda t: t.fit_stream(jr.key(0), jnp.ones((5, 3))), "`batches` .*`list"),
        (lambda t: t.fit_stream(jr.key(0), {"x": np.ones(3)}), "`batches`"),
        (lambda t: t.fit_stream(jr.key(0), 3), "`batches` of .* iterable of batches"),
        (
            lambda t: t.init_and_train(jr.key(0), np.array([[1], [1, 2]], object)),
            "`data` must hold arrays of numbers",
        ),
        (
            lambda t: dataclasses.replace(
                t, record=lambda state: "text"
            ).init_and_train(jr.key(0)),
            "`record` must return arrays",
        ),
    ],
)
def test_wrong_calls(call: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        call(_evolve(3))
    assert "\n" not in str(caught.value)


def test_select_that_returns_text() -> None:
    class Text(rx.AbstractObserver):
        def select(self, run: rx.Run) -> Any:
            return lambda state, metrics: {"name": "text"}

    with pytest.raises(TypeError, match=r"`Text\.select` computes.*\['name'\]"):
        _evolve(3, callbacks=Text()).init_and_train_(jr.key(0))


class _Alone(_Own):
    """Its runs have an option that XLA does not know, unless they are lanes."""

    lone_xla_options = {"xla_alone": True}


@pytest.mark.parametrize("kws", [{}, {"callbacks": rx.ProgressBar()}])
def test_options_of_lone_runs(kws: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be options that XLA takes.*xla_alone"):
        _Alone(2, **kws).init_and_train(jr.key(0))
    rx.Replicated(_Alone(2), 2).init_and_train(jr.key(0))


class _Hasty(_Own):
    """It compiles its `initialize` by an option that XLA does not know."""

    initial_xla_options = {"xla_hastily": True}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda trainer: trainer,
        lambda trainer: rx.Restarting(trainer, lambda state, metrics: False),
    ],
    ids=["alone", "restarting"],
)
def test_options_of_the_first_state(wrapped: Any) -> None:
    trainer, own = wrapped(_Hasty(2)), wrapped(_Own(2))
    with pytest.raises(ValueError, match="`initial_xla_options` of .*xla_hastily"):
        trainer.init_and_train(jr.key(0))
    # A program inside of another has no options, and the run has those of its own.
    result = own.init_and_train(jr.key(0))
    assert same(eqx.filter_jit(trainer.init_and_train)(jr.key(0)), result)
    state = own.initialize(jr.key(0))
    assert same(trainer.train(state, jr.key(1)), own.train(state, jr.key(1)))


def test_options_and_a_global_variable_that_is_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hidden(_Hasty):
        def initialize(self, key: Any, data: Any = None) -> _State:
            return _State(jnp.zeros((), jnp.int32), jnp.sin(globals()["_SCALE"]))

        def train_step(self, state: _State, key: Any, data: Any = None) -> Any:
            return state, {"drawn": state.drawn}

    def loss(scale: Any) -> Any:
        monkeypatch.setitem(globals(), "_SCALE", scale)
        return Hidden(2).init_and_train_(jr.key(0)).drawn

    assert np.isclose(jax.grad(loss)(2.0), np.cos(2.0))


def test_loops_of_small_batches_stay_on_one_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    option = {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}

    def learner(**kws: Any) -> Any:
        given = {"train_steps": 1, "num_envs": 32, "num_steps": 32, **kws}
        return rx.PQN("CartPole-v1", **{"num_minibatches": 8, **given})

    assert learner().lone_xla_options == option
    never = lambda state, metrics: False
    assert rx.Restarting(learner(), never).lone_xla_options == option
    # 32 is the least width that is expected of a layer.
    assert learner(num_steps=128).lone_xla_options == option
    assert learner(num_steps=136).lone_xla_options == {}
    assert learner(num_envs=1024, num_minibatches=1024).lone_xla_options == {}
    assert rx.Replicated(learner(), 2).lone_xla_options == {}
    assert learner(compiler_options={}).lone_xla_options == {}
    own = {"xla_cpu_enable_fast_math": "False"}
    assert learner(compiler_options=own).lone_xla_options == own
    monkeypatch.setenv("XLA_FLAGS", "--xla_disable_hlo_passes=fusion")
    assert learner().lone_xla_options == {}
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert learner().lone_xla_options == {}


def test_learners_compile_their_first_state_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def options(learner: Any = rx.SAC, task: str = "Pendulum-v1", **kws: Any) -> Any:
        return learner(task, 40_000, **kws).initial_xla_options

    fast = {"xla_backend_optimization_level": 0}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert options() == options(rx.PPO, "CartPole-v1") == {}
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert options().items() >= fast.items()
    assert options(rx.PPO, "CartPole-v1").items() >= fast.items()
    # Unless the user has options, or so many random steps that their time counts.
    assert options(compiler_options={}) == options(learning_starts=30_000) == {}


def test_jit_of_a_method() -> None:
    trainer = _evolve(3)
    with pytest.raises(
        TypeError, match=r"`eqx\.filter_jit\(trainer\.init_and_train\)`"
    ):
        jax.jit(trainer.init_and_train)(jr.key(0))
    expected = trainer.init_and_train(jr.key(0))
    assert close(eqx.filter_jit(trainer.init_and_train)(jr.key(0)), expected)
    with_lambda = eqx.filter_jit(lambda key: trainer.init_and_train_(key))
    assert close(with_lambda(jr.key(0)), expected[0])
