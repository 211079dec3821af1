"""Wrong arguments: errors of one line that name the argument before compilation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from evosax.algorithms import CMA_ES, SNES

import realax as rx
from realax._errors import check_data
from realax.training._checks import check_record

from .helpers import compilations, python, rastrigin, same


def evosax_trainer(**kws: Any) -> Any:
    given: dict[str, Any] = {
        "train_steps": 3,
        "strategy": "SNES",
        "task": rastrigin,
        "params_like": jnp.ones(2),
        "popsize": 8,
    }
    return rx.EvosaxTrainer(**{**given, **kws})


def optax_trainer(**kws: Any) -> Any:
    given: dict[str, Any] = {
        "epochs": 3,
        "optimizer": "adam",
        "initializer": lambda key: jnp.ones(2),
        "loss_fn": rastrigin,
    }
    return rx.OptaxTrainer(**{**given, **kws})


def evolve(**kws: Any) -> Any:
    given = {"prms": jnp.ones(2), "task": rastrigin, "key": jr.key(0), "popsize": 8}
    return rx.evolve(**{**given, "steps": 3, **kws})


def optimize(**kws: Any) -> Any:
    given = {"prms": jnp.ones(2), "loss_fn": rastrigin, "key": jr.key(0), "steps": 3}
    return rx.optimize(**{**given, **kws})


def gymnax_task(**kws: Any) -> Any:
    return rx.GymnaxTask(**{"env": "CartPole-v1", **kws})


def mlp_policy(**kws: Any) -> Any:
    given = {"obs_dims": 4, "action_dims": 2, "width": 8, "depth": 1, "key": jr.key(0)}
    return rx.MLPPolicy(**{**given, **kws})


def shaper(**kws: Any) -> Any:
    return rx.FitnessShaper(**kws)


NAN = jnp.asarray([1.0, jnp.nan])
# The function, its keywords, and two parts of the message.
WRONG: list[tuple[Callable[..., Any], dict[str, Any], str, str]] = [
    # Counts.
    (evosax_trainer, {"train_steps": "many"}, "`train_steps` of `Evo", "got 'many'"),
    (evosax_trainer, {"popsize": True}, "`popsize` of `EvosaxTrainer`", "got True"),
    (evosax_trainer, {"popsize": 8.5}, "`popsize`", "whole number of at least 1"),
    (evosax_trainer, {"popsize": None}, "`popsize`", "got None"),
    (evosax_trainer, {"eval_reps": 0}, "`eval_reps`", "at least 1, but got 0"),
    (evosax_trainer, {"n_devices": -1}, "`n_devices`", "got -1"),
    (evolve, {"steps": "3"}, "`steps` of `evolve`", "got '3' of type str"),
    (evolve, {"steps": 1e-3}, "`steps` of `evolve`", "got 0.001"),
    (optax_trainer, {"epochs": 2.5}, "`epochs` of `OptaxTrainer`", "got 2.5"),
    (optimize, {"steps": 0}, "`steps` of `optimize`", "got 0"),
    # Flags.
    (evolve, {"use_scan": "no"}, "`use_scan` of `evolve`", "True or False"),
    (optimize, {"progress_bar": 1}, "`progress_bar` of `optimize`", "got 1"),
    (shaper, {"centered_rank": "yes"}, "`centered_rank` of `FitnessShaper`", "'yes'"),
    (shaper, {"maximize": 2}, "`maximize` of `FitnessShaper`", "got 2"),
    (shaper, {"w_decay": float("nan")}, "`w_decay`", "finite"),
    # Unknown names.
    (evosax_trainer, {"popsise": 3}, "`EvosaxTrainer` has no", "'popsize'"),
    (optax_trainer, {"optimiser": "sgd"}, "`OptaxTrainer` has no", "'optimizer'"),
    (evolve, {"train_steps": 3}, "`evolve` has no", "'steps'"),
    (optimize, {"learn_rate": 3}, "`optimize` has no", "'learning_rate'"),
    (shaper, {"centred_rank": True}, "`FitnessShaper` has no", "'centered_rank'"),
    # Values of other types.
    (evosax_trainer, {"strategy": 3}, "`strategy` of `EvosaxTrainer`", "got 3"),
    (evosax_trainer, {"strategy": CMA_ES}, "`strategy`", "got the class CMA_ES"),
    (evosax_trainer, {"task": 3}, "`task` of `EvosaxTrainer`", "a function"),
    (evosax_trainer, {"fitness_shaper": "max"}, "`fitness_shaper`", "maximize=True"),
    (evosax_trainer, {"fitness_shaper": rx.FitnessShaper}, "`fitness_sh", "the class"),
    (evosax_trainer, {"record": "params"}, "`record` of", "got 'params'"),
    (evosax_trainer, {"params_like": 1.0}, "`params_like` of", "jnp.zeros"),
    (evolve, {"prms": 1.0}, "`prms` of `evolve`", "jnp.zeros"),
    (evolve, {"prms": {"a": "b"}}, "`prms` of `evolve`", "['str']"),
    (evolve, {"key": 0}, "`key`", "jax.random.key(seed)"),
    (evolve, {"key": jr.key(0, impl="rbg")}, "`key`", "'rbg'"),
    (optimize, {"key": jr.key(0, impl="unsafe_rbg")}, "`key`", "threefry2x32"),
    (optimize, {"key": jr.PRNGKey(0)}, "`key`", "legacy"),
    (optimize, {"optimizer": None}, "`optimizer` of `optimize`", "got None"),
    (optax_trainer, {"optimizer": optax.adam}, "`optimizer` of", "optax.adam(0.01)"),
    (optax_trainer, {"initializer": jnp.ones(2)}, "`initializer`", "(key)"),
    (optax_trainer, {"loss_fn": None}, "`loss_fn` of `OptaxTrainer`", "got None"),
    # Observers.
    (evosax_trainer, {"callbacks": ("bar",)}, "`callbacks` of", "'bar' of type str as"),
    (optimize, {"callbacks": 3}, "`callbacks` of `optimize`", "got 3"),
    (evolve, {"callbacks": [rx.ProgressBar]}, "`callbacks` of", "an instance"),
    (optax_trainer, {"logger": "runs"}, "`logger` of `OptaxTrainer`", "a `Logger`"),
    # es_kws and es_params.
    (evosax_trainer, {"es_kws": "adam"}, "`es_kws` of `EvosaxTrainer`", "dictionary"),
    (evosax_trainer, {"es_kws": {"learning_rate": None}}, "'learning_rate'", "finite"),
    (
        evosax_trainer,
        {"strategy": "SV_CMA_ES", "es_kws": {"num_populations": "4"}},
        "'num_populations'",
        "got '4'",
    ),
    (
        evosax_trainer,
        {"strategy": "SV_CMA_ES", "es_kws": {"num_populations": None}},
        "'num_populations'",
        "got None",
    ),
    (
        evosax_trainer,
        {"strategy": "OpenES", "es_kws": {"use_antithetic_sampling": "no"}},
        "'use_antithetic_sampling'",
        "True or False",
    ),
    (
        evosax_trainer,
        {"strategy": "OpenES", "es_kws": {"fitness_shaping_fn": "rank"}},
        "'fitness_shaping_fn'",
        "got 'rank'",
    ),
    (evosax_trainer, {"strategy": "OpenES", "es_kws": {"std": -1.0}}, "'std'", "-1.0"),
    (
        evosax_trainer,
        {"strategy": "OpenES", "es_kws": {"std": "a"}},
        "'std'",
        "got 'a'",
    ),
    (
        evosax_trainer,
        {"strategy": "OpenES", "es_kws": {"std": lambda step: None}},
        "schedule of the deviation",
        "got None",
    ),
    (
        evosax_trainer,
        {
            "strategy": "OpenES",
            "es_kws": {"optimizer": "adam", "learning_rate": lambda step: None},
        },
        "`learning_rate` must return",
        "got None",
    ),
    (evosax_trainer, {"es_params": 3}, "`es_params`", "got 3 of type int"),
    (evosax_trainer, {"es_params": {"std_init": "a"}}, "'std_init'", "got 'a'"),
    (evosax_trainer, {"es_params": {"std_init": None}}, "'std_init'", "got None"),
    # Numbers.
    (evosax_trainer, {"es_params": {"std_init": np.nan}}, "'std_init'", "finite"),
    (evosax_trainer, {"es_params": {"std_init": -0.1}}, "'std_init'", "not negative"),
    (evosax_trainer, {"es_params": {"std_init": np.inf}}, "'std_init'", "got inf"),
    (evosax_trainer, {"params_like": {"w": NAN}}, "`params_like` of", "at `['w']`"),
    (evolve, {"prms": NAN}, "`prms` of `evolve`", "1 of 2"),
    (optimize, {"prms": NAN.at[1].set(jnp.inf)}, "`prms` of `optimize`", "finite"),
    (optimize, {"learning_rate": float("nan")}, "`learning_rate` of `opt", "got nan"),
    (optax_trainer, {"learning_rate": -0.1}, "`learning_rate` of", "at least 0"),
    (optax_trainer, {"learning_rate": "fast"}, "`learning_rate` of", "got 'fast'"),
    (optax_trainer, {"learning_rate": lambda step: None}, "`learning_rate` must", "No"),
    (optax_trainer, {"opt_kws": 3}, "`opt_kws` of `OptaxTrainer`", "dictionary"),
    # A class instead of an instance of it.
    (evolve, {"prms": rx.MLPPolicy}, "`prms` of `evolve`", "`MLPPolicy(...)`"),
    (optimize, {"prms": rx.MLPPolicy}, "`prms` of `optimize`", "the class `MLPPolicy`"),
    # Tasks and policies.
    (gymnax_task, {"max_steps": "9"}, "`max_steps` of `GymnaxTask`", "got '9'"),
    (gymnax_task, {"env": 5}, "`env` of `GymnaxTask`", "got 5"),
    (gymnax_task, {"lanes": 2.5}, "`lanes` of `GymnaxTask`", "got 2.5"),
    (gymnax_task, {"env_param": {}}, "`GymnaxTask` has no", "'env_params'"),
    (rx.BraxTask, {"env": "ant", "backend": "newton"}, "`backend` of", "'spring'"),
    (rx.Minibatch, {"loss_fn": rastrigin, "batch_size": 0}, "`batch_size` of", "got 0"),
    (mlp_policy, {"depth": 1.5}, "`depth` of `MLPPolicy`", "got 1.5"),
    (mlp_policy, {"depht": 1}, "`MLPPolicy` has no", "'depth'"),
    # Observers and files.
    (rx.Checkpointer, {"folder": 3}, "`folder` of `Checkpointer`", "got 3"),
    (rx.Checkpointer, {"folder": "a", "every": 0}, "`every` of `Check", "got 0"),
    (rx.Checkpointer, {"folder": "a", "mode": "most"}, "`mode` of `Check", "'most'"),
    (rx.Logger, {"log_fil": "a"}, "`Logger` has no", "'log_file'"),
    (rx.Logger, {"ckpt_freq": "often"}, "`ckpt_freq` of `Logger`", "got 'often'"),
    (rx.EarlyStopping, {"patience": 1.5}, "`patience` of `EarlyStopping`", "got 1.5"),
    (rx.ProgressBar, {"every": True}, "`every`", "got True"),
    (rx.enable_compilation_cache, {"foldr": 2}, "`enable_compilation", "'folder'"),
    (rx.enable_compilation_cache, {"folder": 2}, "`folder` of `enable", "got 2"),
]


def message_of(call: Callable[..., Any], kws: dict[str, Any]) -> str:
    """Return the message of a wrong call, which raises the right type of error."""
    try:
        call(**kws)
    except (TypeError, ValueError) as error:
        assert type(error) in (TypeError, ValueError), type(error)
        return str(error)
    return "no error"


@pytest.mark.parametrize(("call", "kws", "name", "words"), WRONG)
def test_wrong_calls(call: Any, kws: dict[str, Any], name: str, words: str) -> None:
    with compilations() as compiled:
        text = message_of(call, kws)
    assert name in text and words in text and "\n" not in text, text
    assert len(text) < 400, text
    assert not {"jit(bare_run)", "jit(initialize)", "jit(chunk)"} & set(compiled)


def test_without_the_run_time_type_checker() -> None:
    code = (
        "import os; os.environ['JAXTYPING_DISABLE'] = '1'\n"
        "import tests.conftest\n"
        "from tests.test_arguments import WRONG, message_of\n"
        "for call, kws, name, words in WRONG:\n"
        "    text = message_of(call, kws)\n"
        "    if name not in text or words not in text or '\\n' in text:\n"
        "        print(name, kws, text)\n"
        "print('all', len(WRONG))\n"
    )
    result = python("-c", code)
    assert result.stdout == f"all {len(WRONG)}\n", result.stdout + result.stderr


def test_values_that_are_accepted() -> None:
    for number in (8.0, np.int64(8), np.float32(8), jnp.asarray(8)):
        assert evosax_trainer(popsize=number).popsize == 8
    trainer = evosax_trainer(train_steps=np.int32(4), n_devices=1.0, callbacks=None)
    assert (trainer.train_steps, trainer.n_devices, len(trainer.callbacks)) == (4, 1, 0)
    assert (
        evosax_trainer(progress_bar=np.bool_(False), logger=None).callbacks.observers
        == ()
    )
    assert rx.FitnessShaper(centered_rank=np.bool_(True)).centered_rank is True
    assert evosax_trainer(callbacks=[rx.ProgressBar()]).callbacks != ()
    params, _ = evolve(steps=3.0, use_scan=np.bool_(False), callbacks=None)
    assert params.shape == (2,)
    _, state = optimize(steps=np.int64(2), use_scan=False, learning_rate=0)
    assert int(state.step) == 2
    for populations in (4.0, 4):
        kws = {"num_populations": populations}
        assert evosax_trainer(strategy="SV_CMA_ES", es_kws=kws).popsize == 8
    assert evosax_trainer(strategy=SNES(8, jnp.zeros(2))).popsize == 8


def test_traced_values_pass() -> None:
    def run(rate: Any, std: Any, start: Any) -> Any:
        one = optimize(learning_rate=rate, prms=start, use_scan=False)[0]
        two = evosax_trainer(es_params={"std_init": std}, params_like=start)
        shaped = rx.FitnessShaper(w_decay=rate)
        return one, two.es_params.std_init, shaped.w_decay

    one, std, decay = jax.vmap(run)(*jnp.ones((2, 3)), jnp.ones((3, 2)))
    assert (one.shape, std.shape, decay.shape) == ((3, 2), (3,), (3,))


@pytest.mark.parametrize("make", [evosax_trainer, optax_trainer])
def test_replace(make: Any) -> None:
    watch = rx.ProgressBar()
    trainer = make(callbacks=(watch,), record=lambda state: state.step)
    seven = dataclasses.replace(trainer, train_steps=7)
    assert seven.train_steps == 7 and trainer.train_steps == 3
    for field in dataclasses.fields(trainer):
        if field.name != "train_steps":
            before, after = (getattr(one, field.name) for one in (trainer, seven))
            assert before is after or before == after or same(before, after), field.name
    bare = dataclasses.replace(seven, callbacks=None)
    assert same(bare.init_and_train_(jr.key(0)).step, jnp.asarray(7, jnp.int32))


def test_replacing_by_an_alias() -> None:
    trainer = dataclasses.replace(optax_trainer(), epochs=5)
    assert trainer.train_steps == trainer.epochs == 5
    assert optax_trainer(opt_kws={"b1": 0.5}).opt_kws == {"b1": 0.5}


def test_replacing_fields_that_the_parameters_depend_on() -> None:
    trainer = evosax_trainer(es_params={"std_init": 0.5})
    for other in {"popsize": 16}, {"params_like": jnp.ones(2), "popsize": 4}:
        with pytest.raises(ValueError, match="with this `popsize`.* es_params=None"):
            dataclasses.replace(trainer, **other)
    with pytest.raises(TypeError, match=r"Params of CMA_ES, but got a evosax\.\S*\. "):
        dataclasses.replace(trainer, strategy="CMA_ES")
    bigger = dataclasses.replace(trainer, popsize=16, es_params=None)
    assert same(bigger.es_params, evosax_trainer(popsize=16).es_params)


def test_the_direction_follows_the_task() -> None:
    class Hill(rx.AbstractTask[Any]):
        maximize: bool = True

        def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
            return -jnp.sum(params**2), None

    trainer = dataclasses.replace(evosax_trainer(train_steps=40), task=Hill())
    assert trainer.objective == ("best_fitness", "max")
    assert trainer.init_and_train_(jr.key(0)).best_fitness > -0.5


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.asarray([[1], [1, 2]], object), r"object at `\(root\)`"),
        ({"x": np.ones(2), "name": np.asarray(["a"])}, r"<U1 at `\['name'\]`"),
        ([np.asarray("2026-01-01", "datetime64[D]")], r"at `\[0\]`"),
    ],
)
def test_data_that_jax_cannot_hold(data: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        check_data(data)


def test_data_that_jax_can_hold() -> None:
    check_data({"a": np.ones(2), "b": jnp.ones(2), "c": "text", "d": None, "e": 2.5})
    check_data(jr.key(0))


def test_the_result_of_record() -> None:
    check_record({"a": jnp.ones(2), "name": "a model"})
    for wrong in ("text", None, {"a": "text"}, jnp.tanh):
        with pytest.raises(TypeError, match=r"^`record` must return arrays .* got "):
            check_record(wrong)
