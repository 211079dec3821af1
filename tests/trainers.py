"""The trainers that `test_every_trainer.py` tests, one row for each."""

import ast
import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

import realax as rx

from .helpers import ROOT, rastrigin
from .reach import Reach, reach


class Demanding(rx.AbstractTask[Any]):
    """A task with options for the compiler, by default one that none has."""

    options: Any = eqx.field(static=True, default=(("no_such_option", True),))
    maximize: bool = False

    @property
    def compiler_options(self) -> Any:
        return dict(self.options) if isinstance(self.options, tuple) else self.options

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        arrays = jax.tree.leaves(eqx.filter(params, eqx.is_inexact_array))
        value = sum(jnp.sum(leaf**2) for leaf in arrays)
        return value, {"descriptor": jnp.ravel(arrays[0])[:2], "third": value}


class DemandingReach(rx.EnvelopeTask[Any]):
    """An environment with options for the compiler that none has."""

    compiler_options = property(lambda self: {"no_such_option": True})


@dataclasses.dataclass(frozen=True)
class Row:
    """A trainer to test.

    - `name`: the name in the tests.
    - `make`: builds the trainer from `train_steps` and further arguments.
    - `leaf`: returns the hyperparameter to map over.
    - `values`: two values of the hyperparameter.
    - `smooth`: whether a few steps are a smooth function of the hyperparameter.
    - `differentiable`: whether the task is differentiable; `None` if a run on it is
        not, for Adam's step has no derivative where a gradient is exactly 0.
    - `optimized`: whether its programs are compiled as users do, and also tested for
        what depends on the kind of a trainer alone: one trainer of each kind. Those of
        the others compile in half the time.
    - `float64`: whether the laws on numbers are tested in float64 too, and not their
        types alone.
    - `options`: whether runs are compiled with the `compiler_options` of the task.
    - `curve`: the metric that depends on the hyperparameter.
    - `like`: returns a tree of the type of the trained parameters.
    - `task`: returns the task.
    - `demanding`: makes a task for it, with options for the compiler.
    """

    name: str
    make: Callable[..., Any]
    leaf: Callable[[Any], Any]
    values: tuple[float, float]
    smooth: bool = False
    differentiable: bool | None = True
    optimized: bool = False
    float64: bool = False
    options: bool = True
    curve: str = "mean_fitness"
    like: Callable[[Any], Any] = lambda trainer: trainer.params_like
    task: Callable[[Any], Any] = lambda trainer: trainer.task
    demanding: Callable[..., Any] = Demanding


def _evolution(strategy: str, **kws: Any) -> Callable[..., Any]:
    def make(train_steps: int, **more: Any) -> Any:
        return rx.EvosaxTrainer(
            train_steps,
            strategy,
            rastrigin,
            jnp.ones(3),
            popsize=8,
            **{**kws, **more},
        )

    return make


def _cartpole(train_steps: int, **more: Any) -> Any:
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    task = rx.GymnaxTask("CartPole-v1", max_steps=30)
    return rx.EvosaxTrainer(
        train_steps, "SNES", task, policy, popsize=6, eval_reps=2, **more
    )


def _std_init(trainer: Any) -> Any:
    return trainer.es_params.std_init


def _w_decay(trainer: Any) -> Any:
    return trainer.fitness_shaper.w_decay


def _gradient(optimizer: str, **kws: Any) -> Callable[..., Any]:
    def make(train_steps: int, **more: Any) -> Any:
        given = {"initializer": _ones, "loss_fn": rastrigin, "learning_rate": 0.01}
        return rx.OptaxTrainer(train_steps, optimizer, **{**given, **kws, **more})

    return make


def _ones(key: Any) -> Any:
    return jnp.full(3, 1.2)


def _model(key: Any) -> Any:
    return rx.MLPPolicy(3, 1, 4, 1, key=key), {
        "count": jnp.arange(2),
        "name": "a model",
    }


def _output(params: Any, key: Any, data: Any = None) -> Any:
    (model, _), inputs = params, jr.normal(key, (16, 3))
    outputs = jax.vmap(lambda x: model(x, None, key)[0])(inputs)[:, 0]
    return jnp.mean((outputs - inputs.sum(-1)) ** 2), {"mean": outputs.mean()}


def _learning_rate(trainer: Any) -> Any:
    return trainer.learning_rate


def _documented(*names: str) -> list[Any]:
    """Return classes of `docs/extending.md`, without running the rest of that page."""
    page = (ROOT / "docs" / "extending.md").read_text()
    code = ast.parse("".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    code.body = [
        node
        for node in code.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.ClassDef) and node.name in names)
    ]
    namespace: dict[str, Any] = {"__name__": "extending"}
    exec(compile(code, "docs/extending.md", "exec"), namespace)
    return [namespace[name] for name in names]


_, HillClimber = _documented("ClimberState", "HillClimber")


def _climber(train_steps: int, **more: Any) -> Any:
    return HillClimber(train_steps, rastrigin, jnp.ones(3), **more)


_GRADIENT: dict[str, Any] = {
    "leaf": _learning_rate,
    "values": (0.01, 0.02),
    "smooth": True,
    "curve": "loss",
    "like": lambda trainer: trainer.initializer(jr.key(0)),
    "task": lambda trainer: trainer.loss_fn,
}


def _learner(kind: Callable[..., Any], discrete: bool, **own: Any) -> dict[str, Any]:
    """Return the entries of the row of a reinforcement learner.

    Its environment is one whose programs are small, and its episodes end in the midst
    of updates.
    """

    def make(train_steps: int, **more: Any) -> Any:
        task = reach(discrete=discrete)
        return kind(task, train_steps=train_steps, **{**own, **more})

    return {
        "make": make,
        "leaf": _learning_rate,
        "values": (0.001, 0.01),
        "differentiable": None,
        "like": lambda trainer: trainer.params(trainer.initialize(jr.key(0))),
        "task": lambda trainer: trainer.env,
        "demanding": lambda: DemandingReach(Reach(discrete=discrete), max_steps=7),
    }


def _replicated(train_steps: int, **more: Any) -> Any:
    inner = _gradient("adam")(train_steps)
    return rx.Replicated(inner, 4, train_steps=train_steps, n_devices=2, **more)


def _population(train_steps: int, **more: Any) -> Any:
    inner = _evolution("CMA_ES")(1)
    return rx.PopulationBased(
        inner,
        4,
        {"es_params.std_init": (0.1, 1.0)},
        every=3,
        train_steps=train_steps,
        **more,
    )


def _restarting(train_steps: int, **more: Any) -> Any:
    inner = _gradient("adam")(1)
    rule = rx.EarlyStopping(patience=2)
    return rx.Restarting(inner, rule, train_steps=train_steps, **more)


def _described(params: Any, key: Any, data: Any = None) -> Any:
    return rastrigin(params, key)[0], {"descriptor": params[:2], "third": params[2]}


def _described_model(params: Any, key: Any, data: Any = None) -> Any:
    value, aux = _output(params, key)
    weights = params[0].mlp.layers[0].weight
    return value, {**aux, "descriptor": jnp.stack([aux["mean"], weights[0, 0]])}


def _diversity(
    emitter: Any, own: Callable[[], dict[str, Any]] = dict
) -> Callable[..., Any]:
    """Arrays are made when a trainer is, in the float type of the test."""

    def make(train_steps: int, **more: Any) -> Any:
        given = {"task": _described, "params_like": jnp.ones(3), "keep": "third"}
        archive = rx.GridArchive((4, 5), -6.0, 6.0)
        settings = {"archive": archive, "popsize": 12, "qd_offset": 50.0}
        given |= settings | own() | more
        return rx.QDTrainer(train_steps, emitter=emitter(), **given)

    return make


@functools.cache
def _of_qdax(float64: bool) -> Any:
    del float64  # the emitter holds arrays
    from qdax.core.emitters.cma_improvement_emitter import CMAImprovementEmitter
    from qdax.core.emitters.cma_pool_emitter import CMAPoolEmitter

    centroids = rx.GridArchive((4, 5), -6.0, 6.0).centroids
    one = CMAImprovementEmitter(12, 3, centroids, sigma_g=0.5, min_count=1)
    return CMAPoolEmitter(2, one)


def _net(size: Any) -> Any:
    return lambda key: eqx.nn.MLP(3, size, 8, 1, key=key)


def _critic(key: Any) -> Any:
    return rx.ActionValue(eqx.nn.MLP(5, "scalar", 8, 1, key=key))


_BATCHES: dict[str, Any] = {
    "num_envs": 4,
    "num_steps": 8,
    "update_epochs": 2,
    "num_minibatches": 2,
}
_BUFFER: dict[str, Any] = {
    "num_envs": 2,
    "buffer_size": 16,
    "batch_size": 8,
    "learning_starts": 8,
}
_DECAY = rx.FitnessShaper(w_decay=0.1)

TRAINERS = [
    Row(
        "CMA_ES",
        _evolution("CMA_ES"),
        _std_init,
        (0.1, 0.5),
        optimized=True,
        float64=True,
    ),
    Row(
        "OpenES",
        _evolution("OpenES", fitness_shaper=_DECAY),
        _w_decay,
        (0.0, 5.0),
    ),
    Row("PGPE, two devices", _evolution("PGPE", n_devices=2), _std_init, (0.1, 0.5)),
    Row(
        "SimpleGA",
        _evolution("SimpleGA", fitness_shaper=_DECAY),
        _w_decay,
        (0.0, 5.0),
    ),
    Row(
        "CartPole",
        _cartpole,
        _std_init,
        (0.1, 0.5),
        differentiable=False,
        optimized=True,
        float64=True,
    ),
    Row("adamw", _gradient("adamw"), optimized=True, float64=True, **_GRADIENT),
    Row(
        "model by sgd",
        _gradient("sgd", initializer=_model, loss_fn=_output),
        **_GRADIENT,
    ),
    Row(
        "PPO",
        optimized=True,
        float64=True,
        curve="policy_loss",
        **_learner(rx.PPO, True, actor=_net(3), critic=_net("scalar"), **_BATCHES),
    ),
    Row(
        "PQN",
        curve="value_loss",
        **_learner(rx.PQN, True, network=_net(3), epsilon_steps=100, **_BATCHES),
    ),
    Row(
        "DQN",
        optimized=True,
        curve="value_loss",
        **_learner(
            rx.DQN,
            True,
            network=_net(3),
            n_step=2,
            num_steps=1,
            target_every=3,
            tau=1.0,
            **_BUFFER,
        ),
    ),
    Row(
        "TD3",
        curve="policy_loss",
        **_learner(
            rx.TD3, False, actor=_net(2), critic=_critic, normalize_obs=True, **_BUFFER
        ),
    ),
    Row(
        "SAC",
        float64=True,
        curve="policy_loss",
        **_learner(
            rx.SAC, False, actor=_net(4), critic=_critic, gradient_steps=2, **_BUFFER
        ),
    ),
    Row(
        "Replicated, two devices",
        _replicated,
        **{
            **_GRADIENT,
            "leaf": lambda trainer: trainer.trainer.learning_rate,
            "like": lambda trainer: trainer.params(trainer.initialize(jr.key(0))),
            "task": lambda trainer: trainer.trainer.loss_fn,
        },
    ),
    Row(
        "PopulationBased",
        _population,
        lambda trainer: trainer.explore[0].low,
        (0.01, 0.1),
        float64=True,
        differentiable=None,
        like=lambda trainer: jnp.ones(3),
        task=lambda trainer: trainer.trainer.task,
    ),
    Row(
        "Restarting",
        _restarting,
        **{
            **_GRADIENT,
            "leaf": lambda trainer: trainer.trainer.learning_rate,
            "smooth": False,
            "like": lambda trainer: jnp.full(3, 1.2),
            "task": lambda trainer: trainer.trainer.loss_fn,
        },
    ),
    Row(
        "iso_line",
        _diversity(rx.IsoLineEmitter),
        lambda trainer: trainer.emitter.iso_sigma,
        (0.01, 0.5),
        optimized=True,
        float64=True,
        curve="qd_score",
    ),
    Row(
        "cma_me",
        _diversity(lambda: rx.CMAEmitter(emitters=2)),
        lambda trainer: trainer.emitter.sigma,
        (0.1, 0.5),
        curve="qd_score",
    ),
    Row(
        "cma_mega, unstructured",
        _diversity(
            lambda: rx.CMAMEGAEmitter(),
            lambda: {"archive": rx.UnstructuredArchive(30, 1.0)},
        ),
        lambda trainer: trainer.archive.spacing,
        (0.5, 2.0),
        curve="qd_score",
    ),
    Row(
        "whole model, two emitters",
        _diversity(
            lambda: (rx.IsoLineEmitter(), rx.GaussianEmitter()),
            lambda: {
                "task": _described_model,
                "params_like": _model(jr.key(0)),
                "keep": (),
                "archive": rx.CVTArchive(10, -1.0, 1.0),
                "n_devices": 2,
            },
        ),
        lambda trainer: trainer.init_std,
        (0.1, 0.5),
        curve="qd_score",
    ),
    Row(
        "qdax",
        _diversity(lambda: _of_qdax(bool(jax.config.jax_enable_x64))),
        lambda trainer: trainer.qd_offset,
        (1.0, 5.0),
        curve="qd_score",
    ),
    Row(
        "climber",
        _climber,
        lambda trainer: trainer.deviation,
        (0.1, 0.5),
        optimized=True,
        options=False,
        curve="value",
        like=lambda trainer: trainer.start,
    ),
]
