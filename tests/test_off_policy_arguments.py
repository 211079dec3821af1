"""DQN, PQN, TD3, DDPG and SAC: every setting has an effect, and what is refused."""

import functools
from typing import Any, override

import envelope
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx

from .helpers import compilations, same
from .probes import Probe
from .reach import Reach, reach
from .test_off_policy import (
    Seeing,
    ddpg,
    dqn,
    learn,
    mlp,
    narrow,
    pqn,
    sac,
    start,
    td3,
    value,
)


# --- Every setting has an effect ---


SHARED = {"learning_rate": 0.003, "gamma": 0.5}
EXPLORING = {"epsilon_start": 0.5, "epsilon_end": 0.9, "epsilon_steps": 50.0}
LEAVES: dict[str, Any] = {
    "DQN": {**SHARED, **EXPLORING, "tau": 0.5, "max_grad_norm": 0.01},
    "PQN": {
        **SHARED,
        **EXPLORING,
        "epsilon_steps": 500.0,
        "td_lambda": 0.1,
        "max_grad_norm": 0.01,
    },
    "TD3": {
        **SHARED,
        "exploration_noise": 0.5,
        "target_noise": 0.05,
        "noise_clip": 0.01,
        "tau": 0.5,
    },
    "SAC": {**SHARED, "temperature": 0.1, "target_entropy": 1.0, "tau": 0.5},
}
STARTS: dict[str, Any] = {"epsilon_start": 0.9, "epsilon_end": 0.1, "epsilon_steps": 8}
MAKE: dict[str, Any] = {
    "DQN": functools.partial(dqn, train_steps=6, target_every=2, **STARTS),
    "PQN": functools.partial(pqn, train_steps=3, **STARTS),
    "TD3": functools.partial(td3, train_steps=6),
    "SAC": functools.partial(sac, train_steps=4),
}
RATE = 0.01


def _trained(state: Any) -> Any:
    nets = getattr(state, "nets", state)
    names = "online", "actor", "critics"
    return [getattr(nets, n).trained for n in names if hasattr(nets, n)]


@pytest.mark.parametrize("name", LEAVES)
def test_every_number_has_an_effect_in_one_program(name: str) -> None:
    """The numbers are leaves: a program trains with a changed one in each lane."""
    trainer, changes = MAKE[name](learning_rate=RATE), LEAVES[name]
    names = list(changes)
    first = jnp.stack([getattr(trainer, name) for name in names])
    lanes = jnp.stack(
        [first, *(first.at[i].set(changes[n]) for i, n in enumerate(names))]
    )

    def run(values: Any) -> Any:
        where = lambda t: [getattr(t, name) for name in names]
        changed = eqx.tree_at(where, trainer, list(values))
        return _trained(changed.init_and_train_(jr.key(0)))

    trained = jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(lanes))
    for i, name in enumerate(names):
        moved = [np.abs(x[i + 1] - x[0]).max() for x in jax.tree.leaves(trained)]
        assert max(moved) > 1e-6, name


def _train(make: Any, state: Any = None, **kws: Any) -> Any:
    trainer = make(**kws)
    state = start(trainer) if state is None else state
    return state, _trained(trainer.train_(state, jr.key(1)))


@functools.cache
def _usual(make: Any) -> Any:
    return _train(make)


@pytest.mark.parametrize(
    ("make", "kws"),
    [
        (dqn, {"n_step": 3}),
        (dqn, {"batch_size": 4}),
        (dqn, {"normalize_obs": True}),
        (pqn, {"anneal_lr": True}),
    ],
    ids=lambda x: x.__name__ if callable(x) else next(iter(x)),
)
def test_every_setting_has_an_effect(make: Any, kws: Any) -> None:
    """Sizes, delays and networks have theirs in `test_off_policy.py`."""
    state, usual = _usual(make)
    # With statistics, states are of another type.
    _, found = _train(make, None if "normalize_obs" in kws else state, **kws)
    vector = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    found, usual = vector(found), vector(usual)
    assert np.all(np.isfinite(found)) and np.abs(found - usual).max() > 1e-6


# --- What is refused ---


class Several(Probe):
    """An environment with two choices in a step."""

    action_space = property(lambda self: envelope.Discrete(n=jnp.array([3, 2])))

    @override
    def step(self, state: Any, action: Any) -> Any:
        return super().step(state, action[1])


class Boundless(Probe):
    """An environment with continuous actions of any size."""

    action_space = property(
        lambda self: envelope.Continuous.from_shape(-jnp.inf, jnp.inf, (1,))
    )


class Alone(Reach):
    """An environment whose one choice is in a vector."""

    action_space = property(lambda self: envelope.Discrete(n=jnp.array([3])))

    @override
    def step(self, state: Any, action: Any) -> Any:
        return super().step(state, action[0])


PUSH = reach()
CHOICE = reach(discrete=True)
TWO = rx.make(Several(), max_steps=2)
FREE = rx.make(Boundless(discrete=False), max_steps=2)
IMAGES = reach(discrete=True, shown=True, flatten_obs=False)
BUFFERED = {"DQN": (rx.DQN, CHOICE), "TD3": (rx.TD3, PUSH), "SAC": (rx.SAC, PUSH)}
LEARNERS: dict[str, Any] = {**BUFFERED, "PQN": (rx.PQN, CHOICE)}


def _refused(make: Any, *arguments: Any, message: str, **kws: Any) -> None:
    """It is refused, with the remedy, before a run is compiled."""
    with compilations() as names:
        with pytest.raises((TypeError, ValueError), match=message):
            make(*arguments, **kws)
    runs = {"jit(bare_run)", "jit(initialize)", "jit(_play_at_random)", "jit(_begin)"}
    assert not runs & set(names)


@pytest.mark.parametrize(
    ("make", "task", "message"),
    [
        (rx.DQN, PUSH, "`DQN` chooses one of .*are continuous. Use `SAC`, `TD3` or"),
        (rx.PQN, PUSH, "`PQN` chooses one of .*are continuous. Use `SAC`, `TD3` or"),
        (rx.TD3, CHOICE, "`TD3` needs continuous.*are choices. Use `DQN`, `PQN`, `SAC"),
        (rx.DDPG, CHOICE, "needs continuous.*are choices. Use `DQN`, `PQN`, `SAC"),
        (rx.DQN, TWO, "`DQN` needs actions that are one choice.*several.*Use `PPO`"),
        (rx.PQN, TWO, "`PQN` needs actions that are one choice.*several.*Use `PPO`"),
        (rx.SAC, TWO, "`SAC` needs actions that are one choice.*several.*Use `PPO`"),
        *(
            (make, FREE, "needs actions between finite bounds.*Use `PPO`, or wrap")
            for make in (rx.TD3, rx.DDPG, rx.SAC)
        ),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_wrong_actions(make: Any, task: Any, message: str) -> None:
    _refused(make, task, 5000, message=message)


def test_an_infinite_bound() -> None:
    """One bound is not enough, and the largest number of a float is none."""

    class Half(Probe):
        action_space = property(
            lambda self: envelope.Continuous.from_shape(0.0, jnp.inf, (1,))
        )

    class Largest(Probe):
        action_space = property(
            lambda self: envelope.Continuous.from_shape(
                -1.0, float(np.finfo(np.float32).max), (1,)
            )
        )

    for kind in (Half, Largest):
        task = rx.make(kind(discrete=False), max_steps=2)
        _refused(rx.TD3, task, 5000, message="between finite bounds")


@pytest.mark.parametrize("name", BUFFERED)
@pytest.mark.parametrize(
    ("kws", "message"),
    [
        (
            {"batch_size": 1001},
            "`learning_starts` of `NAME` must be at least `batch_size`, which is 1001.*"
            "but got 1000",
        ),
        (
            {"buffer_size": 50, "batch_size": 64},
            "`buffer_size` of `NAME` must be at least `batch_size`.*64, but got 50",
        ),
        (
            {"buffer_size": 500, "batch_size": 64},
            "`learning_starts` of `NAME` must be at most `buffer_size`.*500.*got 1000",
        ),
        ({"tau": 0}, "`tau` of `NAME` must be .*above 0 and at most 1, but got 0"),
        ({"tau": 1.5}, "`tau` of `NAME` must be .*at most 1, but got 1.5"),
        ({"tau": -1}, "`tau` of `NAME` must be .*above 0 .*but got -1"),
        ({"tau": "all"}, "`tau` of `NAME` must be a finite number.*'all'"),
        ({"gamma": 0.0}, "`gamma` of `NAME` must be .*above 0 .*but got 0"),
        ({"learning_rate": -1.0}, "`learning_rate` of `NAME` .*at least 0, but got -1"),
        ({"gradient_steps": 0}, "`gradient_steps` of `NAME` .*at least 1, but got 0"),
        ({"num_steps": 1.5}, "`num_steps` of `NAME` must be a whole number.*1.5"),
        (
            {"total_timesteps": 1000, "num_steps": 1},
            "`total_timesteps` of `NAME` must be at least 1001, but got 1000. One "
            "update plays 1 .*and 1000 are played before the first one",
        ),
        (
            {"total_timesteps": 1011, "num_envs": 4, "num_steps": 3},
            r"must be at least 1020, .*12 \(.*1008 are played before",
        ),
        ({"total_timesteps": None}, "`total_timesteps` of `NAME` must be given"),
        ({"learning_rat": 1}, "`NAME` has no argument `learning_rat`.*'learning_rate'"),
        ({"bufer_size": 1}, "`NAME` has no argument `bufer_size`.*'buffer_size'"),
        ({"normalize_obs": 1}, "`normalize_obs` of `NAME` must be True or False"),
    ],
    ids=lambda x: ", ".join(x) if isinstance(x, dict) else "",
)
def test_wrong_numbers(name: str, kws: Any, message: str) -> None:
    make, task = BUFFERED[name]
    given = {"total_timesteps": 5000, **kws}
    _refused(make, task, message=message.replace("NAME", name), **given)


@pytest.mark.parametrize("name", ["DQN", "PQN"])
@pytest.mark.parametrize("argument", ["epsilon_start", "epsilon_end"])
@pytest.mark.parametrize("wrong", [-0.1, 1.1])
def test_probabilities(name: str, argument: str, wrong: float) -> None:
    make, task = LEARNERS[name]
    message = f"`{argument}` of `{name}` must be .*at least 0 and at most 1, but got"
    _refused(make, task, 5000, message=message, **{argument: wrong})


@pytest.mark.parametrize(
    ("name", "kws", "message"),
    [
        ("DQN", {"epsilon_steps": 0}, "`epsilon_steps` .*above 0, but got 0"),
        ("DQN", {"n_step": 0}, "`n_step` of `DQN` .*at least 1, but got 0"),
        ("DQN", {"target_every": 0}, "`target_every` .*at least 1, but got 0"),
        ("DQN", {"double": "yes"}, "`double` of `DQN` must be True or False"),
        ("TD3", {"policy_delay": 0}, "`policy_delay` .*at least 1, but got 0"),
        ("TD3", {"noise_clip": -1}, "`noise_clip` .*at least 0, but got -1"),
        ("TD3", {"num_critics": 0}, "`num_critics` .*at least 1, but got 0"),
        ("SAC", {"temperature": 0}, "`temperature` .*above 0, but got 0"),
        ("SAC", {"target_entropy": jnp.inf}, "`target_entropy` .*finite.*inf"),
        ("PQN", {"td_lambda": 1.1}, "`td_lambda` of `PQN` .*at most 1, but got 1.1"),
        ("PQN", {"num_minibatches": 5}, "`num_minibatches` of `PQN` must divide"),
        ("PQN", {"total_timesteps": 1023}, "must be at least 1024, but got 1023"),
        ("PQN", {"total_timesteps": None}, "`total_timesteps` of `PQN` must be given"),
        ("PQN", {"num_step": 5}, "`PQN` has no argument `num_step`.*'num_steps'"),
    ],
    ids=lambda x: ", ".join(x) if isinstance(x, dict) else "",
)
def test_wrong_settings_of_each(name: str, kws: Any, message: str) -> None:
    make, task = LEARNERS[name]
    _refused(make, task, message=message, **{"total_timesteps": 5000, **kws})


WRONG_NETWORKS: list[tuple[str, dict[str, Any], str]] = [
    ("DQN", {"network": mlp(3, 4)}, r"one score for each action.*\(3,\).*\(4,\)"),
    ("DQN", {"network": mlp(5, 3)}, r"`network` must take an obs.*\(3,\)"),
    ("DQN", {"network": lambda key: rx.RNNPolicy(3, 3, 4, key=key)}, "no memory.*RNNP"),
    ("PQN", {"network": lambda key: rx.RNNPolicy(3, 3, 4, key=key)}, "no memory.*RNNP"),
    ("TD3", {"actor": lambda key: rx.RNNPolicy(3, 2, 4, key=key)}, "no memory.*`PPO`"),
    ("SAC", {"actor": lambda key: rx.RNNPolicy(3, 4, 4, key=key)}, "no memory.*`PPO`"),
    ("DQN", {"network": 5}, "`network` of `DQN` must be an `equinox.Module`.*got 5"),
    ("PQN", {"network": 5}, "`network` of `PQN` must be an `equinox.Module`.*got 5"),
    ("TD3", {"actor": "mlp"}, "`actor` of `TD3` must be an `equinox.Module`.*'mlp'"),
    ("SAC", {"critic": [1]}, "`critic` of `SAC` must be an `equinox.Module`"),
    ("SAC", {"actor": eqx.nn.MLP}, "MLP.* cannot be called with one key"),
    ("DQN", {"network": lambda key: 3}, "`network` must be .*function returned 3"),
    ("TD3", {"actor": mlp(3, 3)}, r"`actor` must return one number.*\(2,\).*\(3,\)"),
    ("SAC", {"actor": mlp(3, 2)}, r"`actor` must return a mean.*\(4,\).*\(2,\)"),
    ("TD3", {"actor": mlp(4, 2)}, r"`actor` must take an observation.*\(3,\)"),
    ("TD3", {"critic": mlp(5, "scalar")}, r"take \(obs, action\).*`rx.ActionValue`"),
    ("TD3", {"critic": value(4)}, r"`critic` must take \(obs, action\), .*\(3,\), \(2"),
    (
        "SAC",
        {"critic": lambda key: rx.ActionValue(mlp(5, 2)(key))},
        "return one number",
    ),
    ("TD3", {"critic": value(5)(jr.key(0))}, "2 of them.*got a ActionV.*`lambda key"),
    ("SAC", {"critic": value(5)(jr.key(0))}, "2 of them.*got a ActionV.*`lambda key"),
]


@pytest.mark.parametrize(
    ("name", "kws", "message"), WRONG_NETWORKS, ids=range(len(WRONG_NETWORKS))
)
def test_wrong_networks(name: str, kws: Any, message: str) -> None:
    make, task = LEARNERS[name]
    _refused(make, task, 5000, message=message, **kws)


@pytest.mark.parametrize("name", ["DQN", "PQN"])
def test_a_network_of_one_number(name: str) -> None:
    make, task = LEARNERS[name]
    message = r"`network` must return one score for each action.*\(3,\)"
    _refused(make, task, 5000, message=message, network=mlp(3, "scalar"))


@pytest.mark.parametrize("name", ["TD3", "SAC"])
def test_a_function_that_makes_no_critic(name: str) -> None:
    make, task = LEARNERS[name]
    message = "`critic` must be an `equinox.Module` .*the function returned None"
    _refused(make, task, 5000, message=message, critic=lambda key: None)


def test_dueling_beside_a_network() -> None:
    message = "`dueling` of `DQN` gives the default network.*got a `network` too"
    _refused(rx.DQN, CHOICE, 5000, message=message, network=mlp(3, 3), dueling=True)


def test_wrong_critics_of_choices() -> None:
    for wrong in (mlp(3, 2), mlp(3, "scalar")):
        message = r"`critic` must return one score for each action.*\(3,\)"
        _refused(rx.SAC, CHOICE, 5000, message=message, critic=wrong)
    message = r"`critic` must take \(obs\), of shapes \(3,\)"
    _refused(rx.SAC, CHOICE, 5000, message=message, critic=mlp(4, 3))


@pytest.mark.parametrize(
    ("critic", "message"),
    [
        (mlp(5, "scalar")(jr.key(0)), r"`critic` must take \(obs, action\)"),
        (rx.ActionValue(mlp(5, 3)(jr.key(0))), "`critic` must return one number"),
        (
            eqx.tree_at(
                lambda c: c.network.layers[0].bias,
                value(5)(jr.key(0)),
                jnp.full(5, jnp.nan),
            ),
            "`critic` of `TD3`.*finite",
        ),
    ],
    ids=["one vector", "three numbers", "not finite"],
)
def test_a_wrong_critic_of_ddpg(critic: Any, message: str) -> None:
    _refused(rx.DDPG, PUSH, 5000, message=message, critic=critic)


def test_one_critic_may_be_an_instance() -> None:
    state = ddpg(critic=value(5)(jr.key(3))).nets(jr.key(0))
    expected = eqx.filter(value(5)(jr.key(3)), eqx.is_array)
    for x, y in zip(
        jax.tree.leaves(state.critics.trained), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_array_equal(x[0], y)


@pytest.mark.parametrize(
    ("kws", "message"),
    [
        ({}, "`total_timesteps` of `DDPG` must be given"),
        ({"total_timesteps": 5000, "tau": 0}, "`tau` of `DDPG`"),
    ],
    ids=["steps", "tau"],
)
def test_ddpg_is_called_by_its_name(kws: Any, message: str) -> None:
    _refused(rx.DDPG, PUSH, message=message, **kws)


def test_unknown_arguments_of_ddpg() -> None:
    message = "`DDPG` has no argument `learning_rat`.*'learning_rate'"
    _refused(rx.DDPG, PUSH, 5000, message=message, learning_rat=1)
    # Its own name for what makes it up is not taken.
    message = "`DDPG` has no argument `policy_delay`"
    _refused(rx.DDPG, PUSH, 5000, message=message, policy_delay=1)


def test_observations_that_are_not_flat() -> None:
    for make in (rx.DQN, rx.PQN, rx.SAC):
        argument = "actor" if make is rx.SAC else "network"
        _refused(
            make, IMAGES, 5000, message=f"`{argument}` must be given .*flatten_obs"
        )
        kws: dict[str, Any] = {argument: Seeing, "normalize_obs": True}
        message = f"`normalize_obs` of `{make.__name__}` needs flat observations"
        _refused(make, IMAGES, 5000, message=message, **kws)
    message = "`critic` must be given .*flatten_obs=False"
    _refused(rx.SAC, IMAGES, 5000, message=message, actor=Seeing)


def test_statistics_of_another_size() -> None:
    stats = dqn(normalize_obs=True).first_stats
    policy = stats.bind(rx.GreedyPolicy(mlp(1, 2)(jr.key(0))))
    task = rx.make(Probe(), max_steps=2)
    message = r"`network` of `DQN` must have statistics.*\(1,\), but got shape \(3,\)"
    _refused(rx.DQN, task, 5000, message=message, network=policy)
    _refused(
        rx.PQN,
        task,
        5000,
        message="`network` must be a network here, but got a NormalizedPolicy",
        network=lambda key: policy,
    )


def test_networks_that_are_not_finite() -> None:
    broken = eqx.tree_at(
        lambda net: net.layers[0].bias, mlp(3, 3)(jr.key(0)), jnp.full(6, jnp.nan)
    )
    _refused(rx.DQN, CHOICE, 5000, message="`network` of `DQN`.*finite", network=broken)
    _refused(rx.PQN, CHOICE, 5000, message="`network` of `PQN`.*finite", network=broken)
    _refused(rx.SAC, CHOICE, 5000, message="`actor` of `SAC`.*finite", actor=broken)


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(dqn, network=mlp(3, 3)),
        functools.partial(sac, True),
    ],
    ids=["DQN", "SAC"],
)
def test_one_choice_in_a_vector(make: Any) -> None:
    """Of shape `(1,)`, it is learned as any other choice."""
    alone, other = make(task=rx.make(Alone(discrete=True), max_steps=7)), make()
    state = eqx.filter_eval_shape(lambda: alone.init_and_train_(jr.key(0)))
    assert state.buffer.storage[1].shape == (24, 1), "one integer in a row"
    batch = narrow("choices")
    learned = [
        learn(t, t.nets(jr.key(0)), batch, jr.key(1), jnp.asarray(0))[1]
        for t in (alone, other)
    ]
    assert same(*learned)
