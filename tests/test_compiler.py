"""Compiled functions: their results, and the programs that are kept."""

# pyright: reportPrivateUsage=false

import gc
import pathlib
import weakref
from collections.abc import Callable
from typing import Any

import beartype
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import TypeCheckError

import realax as rx
from realax._check import is_checked
from realax._compile import PROGRAMS, _programs, compiled

from .helpers import compilations


def apply(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def alive(refs: list[weakref.ref[Any]]) -> int:
    gc.collect()
    return sum(ref() is not None for ref in refs)


def fresh(refs: list[weakref.ref[Any]], *shape: int) -> Callable[..., Any]:
    """Return a new task with a new array in its closure."""
    target = jnp.ones(shape)
    refs.append(weakref.ref(target))
    return lambda x, key=None, data=None: (jnp.sum((x - target) ** 2), None)


def test_programs_are_bounded_and_free_what_they_close_over() -> None:
    refs: list[weakref.ref[Any]] = []
    for _ in range(200):
        value, _ = compiled(apply, {})(fresh(refs, 3), np.zeros(3))
        assert value == 3
    assert alive(refs) <= PROGRAMS


def test_evolving_fresh_tasks_keeps_few(monkeypatch: pytest.MonkeyPatch) -> None:
    # A call compiles two programs: for its initial state and for its run. The bound is
    # lower than the real one, because a call takes a quarter of a second.
    monkeypatch.setattr(_programs, "PROGRAMS", 8)
    refs: list[weakref.ref[Any]] = []

    def call(task: Callable[..., Any]) -> Any:
        return rx.evolve(
            jnp.zeros(2), task, jr.key(0), strategy="OpenES", popsize=4, steps=1
        )

    for _ in range(12):
        call(task := fresh(refs, 2))
    with compilations() as names:
        call(task)
    assert not {"jit(bare_run)", "jit(initialize)"} & set(names), names
    del task
    assert alive(refs) <= 4


@pytest.mark.parametrize("late", [False, True])
def test_programs_used_last_stay(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    monkeypatch.setattr(_programs, "PROGRAMS", 2)
    first, second, third = (lambda x, i=i: x + i for i in range(3))
    x = np.float32(0)
    compiled(apply, {})(first, x)
    compiled(apply, {})(second, x)
    if late:
        compiled(apply, {})(first, x)
    compiled(apply, {})(third, x)
    with compilations() as names:
        assert compiled(apply, {})(first, x) == 0
    assert (not names) is late


def test_equal_values_of_other_types_have_other_programs() -> None:
    def shown(x: Any, value: Any) -> Any:
        return x * value, repr(value)

    run = compiled(shown, {})
    values: list[Any] = [True, 1, 1.0, 0.0, -0.0, float("nan"), 1j, False, 0]
    for value in values:
        number, text = run(jnp.int32(2), value)
        assert text == repr(value)
        expected = jnp.int32(2) * value
        assert (number.dtype, number.weak_type) == (expected.dtype, expected.weak_type)
    with compilations() as names:
        for value in values:
            assert run(jnp.int32(2), value)[1] == repr(value)
        run(jnp.int32(2), float("nan"))
    assert names == []


def test_arrays_of_numpy_and_jax_are_traced() -> None:
    run = compiled(lambda x: (x + 1, isinstance(x, jax.Array)), {})
    run(np.float32(1))
    values = np.float32(2), np.array(3, np.float32), jax.device_put(np.float32(4))
    with compilations() as names:
        results = [run(x) for x in values]
    assert names == []
    assert [(float(y), traced) for y, traced in results] == [
        (3, True),
        (4, True),
        (5, True),
    ]


def test_leaves_of_a_result_without_arrays_follow_the_shapes() -> None:
    run = compiled(lambda x: {"sum": x.sum(), "shape": x.shape, "own": [x]}, {})
    for _ in range(2):
        for shape in ((2,), (3, 4)):
            out = run(jnp.ones(shape))
            assert out["shape"] == shape and out["own"][0].shape == shape
            assert out["sum"] == np.prod(shape)


def cube(x: Any, power: int, scale: Any) -> Any:
    return scale * jnp.sin(x) ** power, "text"


TRANSFORMED: dict[str, Callable[..., Any]] = {
    "jit": lambda f: jax.jit(lambda x: f(x, 3, 2.0))(jnp.float32(0.7)),
    "vmap": lambda f: jax.vmap(lambda x: f(x, 3, x))(jnp.arange(3.0)),
    "grad": lambda f: jax.grad(lambda x: f(x, 3, x))(0.7),
    "jvp": lambda f: jax.jvp(lambda x: f(x, 3, x), (0.7,), (1.0,)),
    "hessian": lambda f: jax.vmap(jax.hessian(lambda x: f(x, 3, 1.0)))(jnp.arange(3.0)),
    "scan": lambda f: jax.lax.scan(lambda c, x: (f(c, 3, x), c), 0.5, jnp.arange(3.0)),
}


@pytest.mark.parametrize("way", TRANSFORMED)
def test_transformed_as_filter_jit(way: str) -> None:
    mine, theirs, plain = (
        TRANSFORMED[way](lambda *args, run=run: run(*args)[0])
        for run in (compiled(cube, {}), eqx.filter_jit(cube), cube)
    )
    for a, b, c in zip(*map(jax.tree.leaves, (mine, theirs, plain)), strict=True):
        assert a.dtype == b.dtype and a.weak_type == b.weak_type
        assert np.array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-5)


def test_a_function_over_a_traced_array_is_never_kept() -> None:
    kept = dict(_programs._programs)

    class Held(eqx.Module):
        function: Any = eqx.field(static=True)

    def each(scale: Any) -> Any:
        def scaled(x: Any) -> Any:
            return x * scale

        inside = compiled(lambda held, x: held.function(x), {})(Held(scaled), 3.0)
        return compiled(apply, {})(scaled, np.float32(3)) + inside

    assert np.array_equal(jax.vmap(each)(jnp.arange(3.0)), [0.0, 6.0, 12.0])
    assert jax.grad(each)(2.0) == 6
    assert jax.jit(each)(2.0) == 12
    assert each(jnp.float32(5)) == 30
    new = [key for key in _programs._programs if key not in kept]
    assert len(new) == 2, "only the programs of the outer call are kept"


def test_an_error_names_arguments_without_a_hash() -> None:
    words = r"`function\['a'\]` must be an array or hashable.* got \{1, 2\}"
    with pytest.raises(TypeError, match=words) as error:
        compiled(apply, {})({"a": {1, 2}}, 1.0)
    assert "\n" not in str(error.value)


def test_errors_at_run_time_are_equinox_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def positive(x: Any) -> Any:
        return eqx.error_if(x, x < 0, "x must be positive")

    run = compiled(positive, {})
    assert run(jnp.float32(1)) == 1
    with pytest.raises(eqx.EquinoxRuntimeError, match="x must be positive"):
        run(jnp.float32(-1))
    assert run(jnp.float32(2)) == 2
    assert not caplog.records


def test_errors_while_tracing_show_the_line() -> None:
    def wrong(x: Any) -> Any:
        return x.nothing

    with pytest.raises(AttributeError) as error:
        compiled(wrong, {})(jnp.float32(1))
    assert "wrong" in [entry.name for entry in error.traceback]


def test_options_reach_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    jit = jax.jit

    def spy(function: Any, **kws: Any) -> Any:
        seen.append(kws.get("compiler_options"))
        return jit(function, **kws)

    monkeypatch.setattr(jax, "jit", spy)
    options = {"xla_cpu_prefer_vector_width": 512}
    for given in ({}, options, dict(options), {}):
        assert compiled(add_one, given)(jnp.float32(1)) == 2
    assert seen == [None, {"xla_cpu_prefer_vector_width": "512"}]


def add_one(x: Any) -> Any:
    return x + 1


def test_a_program_has_the_name_of_its_function() -> None:
    with compilations() as names:
        compiled(add_one, {})(np.ones(5))
    assert names == ["jit(add_one)"]


def test_observed_runs_build_their_checks_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    made: list[Any] = []
    real = beartype.beartype

    def counted(function: Any) -> Any:
        made.append(function)
        return real(function)

    def task(x: Any, key: Any, data: Any) -> Any:
        del key, data
        return jnp.sum(x**2), None

    def run(folder: str) -> None:
        logger = rx.Logger(log_file=tmp_path / folder / "log.jsonl", verbose=False)
        trainer = rx.EvosaxTrainer(
            3, "SimpleGA", task, jnp.ones(2), popsize=4, logger=logger
        )
        trainer.init_and_train(jr.key(0))

    monkeypatch.setattr(beartype, "beartype", counted)
    run("a")
    run("b")  # the first run that is compared with an earlier one
    made.clear()
    run("c")
    assert made == []


def test_functions_that_each_step_calls_are_not_checked() -> None:
    # The import hook skips functions that each step calls, by their decorator.
    assert not is_checked(_programs.Compiled.__call__) and is_checked(compiled)
    with pytest.raises(TypeCheckError, match="options"):
        compiled(add_one, 3)  # pyright: ignore[reportArgumentType]


def test_static_fields_compare_by_type() -> None:
    """Python takes 1, 1.0 and True for equal, but each needs its own program."""

    class ScaledByType(rx.AbstractTask[Any]):
        kind: Any = eqx.field(static=True)
        maximize = False

        def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
            scale = {bool: 2.0, float: 3.0, int: 5.0}[type(self.kind)]
            return scale * jnp.sum(params**2), None

    for kind, scale in ((1, 5.0), (1.0, 3.0), (True, 2.0)):
        params, _ = rx.optimize(
            jnp.ones(2),
            ScaledByType(kind),
            jr.key(0),
            optimizer="sgd",
            learning_rate=0.01,
            steps=3,
            use_scan=False,
        )
        assert np.allclose(params, (1 - 0.02 * scale) ** 3, rtol=1e-5)


def test_large_closures_cost_nothing() -> None:
    class Closed:
        __slots__ = ("unset",)

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("not open")

    lazy, many = Closed(), list(range(1_000_000))

    def quiet(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2) + many[0] + (0 if lazy is None else 1), None

    rx.optimize(jnp.ones(2), quiet, jr.key(0), steps=2)
    rates = jnp.array([0.1, 0.2])
    jax.vmap(lambda r: rx.optimize(jnp.ones(2), quiet, jr.key(0), learning_rate=r)[0])(
        rates
    )


def test_ahead_compiles_what_the_call_needs() -> None:
    def double(x: Any, name: str) -> Any:
        return {"twice": 2 * x, "name": name}

    call = compiled(double, {})
    shapes = call.new_shapes(jnp.ones(3), "a")
    assert shapes["twice"] == jax.ShapeDtypeStruct((3,), jnp.float32)
    assert shapes["name"] == "a"
    with call.ahead(jnp.ones(3), "a"):
        pass
    with compilations() as found:
        result = compiled(double, {})(jnp.ones(3), "a")
    assert not found
    assert result["twice"].tolist() == [2, 2, 2]
    assert compiled(double, {}).new_shapes(jnp.ones(3), "a") is None  # it is not new


def test_ahead_of_arrays_that_are_not_computed() -> None:
    def add(x: Any, y: Any) -> Any:
        return x["kept"] + y, x["spent"] + y

    call = compiled(add, {}, reused=lambda x, y: x["spent"])
    shape, y = lambda: jax.ShapeDtypeStruct((3,), jnp.float32), jnp.ones(())
    with call.ahead({"kept": shape(), "spent": shape()}, y):
        pass
    spent = jnp.zeros(3)
    with compilations() as found:
        kept, after = call({"kept": jnp.ones(3), "spent": spent}, y)
    assert not found
    assert kept.tolist() == [2, 2, 2] and after.tolist() == [1, 1, 1]
    assert spent.is_deleted()


def test_ahead_leaves_errors_to_the_call() -> None:
    call = compiled(apply, {"xla_no_such_option": "1"})
    with call.ahead(jnp.sin, jnp.ones(3)):
        pass
    with pytest.raises(ValueError, match="must be options that XLA takes"):
        call(jnp.sin, jnp.ones(3))
    with pytest.raises(KeyError), compiled(apply, {}).ahead(jnp.cos, jnp.ones(3)):
        raise KeyError
    assert compiled(apply, {})(jnp.cos, jnp.zeros(3)).tolist() == [1, 1, 1]

    def refuses(x: Any) -> Any:
        raise RuntimeError("in the function")

    with compiled(refuses, {}).ahead(jnp.ones(3)):
        pass
    with pytest.raises(RuntimeError, match="in the function"):
        compiled(refuses, {})(jnp.ones(3))


PLACED = [(), ("key",), ("data",), ("state",)]


@pytest.mark.parametrize("progress_bar", [False, True])
@pytest.mark.parametrize("rule", [(), rx.EarlyStopping(patience=3)], ids=["", "rule"])
@pytest.mark.parametrize("collect", [False, True])
@pytest.mark.parametrize("placed", PLACED, ids=str)
def test_a_run_compiles_once(
    progress_bar: bool, rule: Any, collect: bool, placed: tuple[str, ...]
) -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2) + data, None

    kws = {"callbacks": rule, "progress_bar": progress_bar}
    trainer = rx.OptaxTrainer(40, "adam", lambda key: jnp.ones(3), task, **kws)
    inputs = {"key": jr.key(0), "data": jnp.ones(())}
    inputs["state"] = trainer.initialize(**inputs)
    for name in placed:
        inputs[name] = jax.device_put(inputs[name], jax.devices()[0])
    state, key, data = inputs["state"], inputs["key"], inputs["data"]
    new = "state" not in placed
    kept = trainer.init_and_train if new else trainer.train
    bare = trainer.init_and_train_ if new else trainer.train_
    arguments = (key, data) if new else (state, key, data)
    run = kept if collect else bare
    with compilations() as found:
        run(*arguments)
    program = "jit(chunk)" if trainer.callbacks else "jit(bare_run)"
    assert found.count(program) == 1
    assert found.count("jit(begun)") == int(new)
    with compilations() as found:
        run(*arguments)
    assert not found


@pytest.mark.parametrize("observed", [False, True])
def test_a_run_is_prepared_before_the_first_state_is_made(observed: bool) -> None:
    events, lowered = list[str](), list[str]()

    def task(x: Any, key: Any, data: Any = None) -> Any:
        events.append("traced")
        return jnp.sum(x**2), None

    def made(key: Any) -> None:
        events.append("made")
        lowered.extend(found)

    def parameters(key: Any) -> Any:
        jax.debug.callback(made, jr.key_data(key))
        return jnp.ones(3)

    trainer = rx.OptaxTrainer(3, "adam", parameters, task, progress_bar=observed)
    with compilations() as found:
        trainer.init_and_train_(jr.key(0))
    assert events == ["traced", "made"], "traced once, and before"
    run = [] if observed else ["jit(bare_run)"]
    assert lowered == ["jit(begun)", *run]


def test_a_run_with_a_replay_buffer_compiles_twice_in_all() -> None:
    trainer = rx.DQN("CartPole-v1", total_timesteps=600, learning_starts=500)
    with compilations() as found:
        trainer.init_and_train_(jr.key(0))
    assert sorted(found) == ["jit(bare_run)", "jit(begun)"]


def test_an_error_of_a_step_comes_after_those_of_the_state() -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        raise RuntimeError("in the step")

    trainer = rx.OptaxTrainer(3, "adam", lambda key: jnp.full(3, jnp.nan), task)
    with pytest.raises(ValueError, match="must hold finite numbers"):
        trainer.init_and_train(jr.key(0))
