"""Fingerprints: which changes count as another configuration, and which do not."""

import collections
import dataclasses
import datetime
import enum
import fractions
import functools
import json
import logging
import math
import operator
import os
import pathlib
import runpy
import subprocess
import sys
import threading
import time
import types
import weakref
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import gymnax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from beartype import beartype
from jaxtyping import jaxtyped

import realax as rx
from realax._storage._fingerprint import (
    configuration,
    content_digest,
    differences,
    execution,
)
from realax._storage._walk import Walk

from .helpers import ROOT, environment, rastrigin


def _same(a: Any, b: Any) -> bool:
    return configuration(a) == configuration(b)


def _module(source: str, name: str = "users") -> Any:
    """Return a module with this source that counts as code of the user."""
    module = types.ModuleType(name)
    module.__file__ = f"/home/user/{name}.py"
    sys.modules[name] = module
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    return module


def _counts(before: str, after: str) -> bool:
    """Return whether `task` of one source differs from that of the other."""
    found = [configuration(_module(source).task) for source in (before, after)]
    return bool(differences(*found))


class Holder:
    """An object that is not a dataclass."""

    def __init__(self, **kws: Any):
        self.__dict__.update(kws)


def test_a_module_counts_by_name() -> None:
    start = time.perf_counter()
    found = configuration(Holder(library=jax.numpy, system=sys, gymnax=gymnax))
    assert time.perf_counter() - start < 5.0, "the contents of modules are visited"
    assert found[".library"] == "module jax.numpy"
    assert len(found) < 20
    assert not _same(Holder(library=jnp), Holder(library=np))


def _chain(length: int) -> Any:
    value: Any = (1.5,)
    for _ in range(length):
        value = (value, value)
    return value


def _unshared(length: int) -> Any:
    return (1.5,) if length == 0 else (_unshared(length - 1), _unshared(length - 1))


def test_shared_parts_are_described_once() -> None:
    found = configuration(_chain(30))
    assert len(found) < 500
    assert found != configuration(_chain(29))
    assert _same(_chain(9), _unshared(9)), "shared and equal parts count the same"


def test_the_bound_names_the_path() -> None:
    message = r"at most 100,000 objects.*at `table\[\d+\](\[1\])?`.*numpy or jax"
    with pytest.raises(ValueError, match=message):
        configuration(Holder(table=[[i, [i]] for i in range(50_000)]))
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"nested too deeply, at `deep\[0\]"):
        configuration(Holder(deep=deep))


def test_cycles() -> None:
    def ring(value: Any) -> Any:
        first = Holder(value=value)
        first.next = Holder(first=first)  # pyright: ignore[reportAttributeAccessIssue]
        return first

    assert _same(ring(1), ring(1)) and not _same(ring(1), ring(2))
    loop = list[Any]([1])
    loop.append(loop)
    assert configuration(loop)["[1]"] == "what contains it, 1 above"

    def task(n: int) -> Any:
        return task(n - 1) if n else 0

    assert configuration(task)[".task"].startswith("what contains it")


class Color(enum.Enum):
    RED = 1


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


class Pair(NamedTuple):
    one: Any
    two: Any = 2


class Own(dict[str, Any]):
    note: Any = None


def _own(note: str) -> Own:
    made = Own(a=1)
    made.note = note
    return made


class Amount(Decimal):
    pass


@dataclasses.dataclass
class Prepared:
    a: int

    def __post_init__(self) -> None:
        self.table = np.full(3, self.a % 2)
        self.a = 0


def _closes_over(value: Any) -> Any:
    return lambda x: x * value


def _relu(scale: float) -> Any:
    @jax.custom_jvp
    def relu(x: Any) -> Any:
        return jnp.maximum(x * scale, 0)

    relu.defjvp(lambda primals, tangents: (relu(*primals), tangents[0]))
    return relu


class Method:
    def __init__(self, value: Any):
        self.value = value

    def call(self, x: Any) -> Any:
        return x * self.value


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# A function for each kind: it returns equal, unshared objects for equal numbers only.
KINDS: dict[str, Any] = {
    "bool": lambda i: bool(i),
    "sign of zero": lambda i: -0.0 if i else 0.0,
    "nan": lambda i: 1.0 if i else math.nan,
    "long text": lambda i: "a" * 1000 + str(i),
    "bytes": lambda i: bytes([i]),
    "bytearray": lambda i: bytearray([i]),
    "kind of number": lambda i: 1.0 if i else 1,
    "array": lambda i: jnp.array([1.0, i]),
    "scalar": lambda i: np.float32(i),
    "dtype of an array": lambda i: jnp.ones(2, jnp.float16 if i else jnp.bfloat16),
    "shape": lambda i: np.ones((1, 2) if i else (2, 1)),
    "dates": lambda i: np.array([i], "datetime64[s]"),
    "objects": lambda i: np.array([fractions.Fraction(1, 3 + i), "text"], dtype=object),
    "key": lambda i: jr.key(i),
    "dtype": lambda i: np.dtype("int8" if i else "int16"),
    "structure": lambda i: jax.tree.structure({"a": (1, [2] * (i + 1))}),
    "static field": lambda i: jax.tree.structure(
        eqx.nn.Linear(2, 3, use_bias=not i, key=jr.key(0))
    ),
    "list": lambda i: [1, [i]],
    "long list": lambda i: [0.5] * 999 + [i],
    "list or tuple": lambda i: [1] if i else (1,),
    "set": lambda i: {"a", "b", "c", i},
    "set of functions": lambda i: {jnp.sin, jnp.cos, jnp.exp if i else jnp.tan},
    "dictionary": lambda i: {"a": 1, "b": i},
    "key of a dictionary": lambda i: {i: "a"},
    "dictionary by function": lambda i: {jnp.sin: i, jnp.cos: 2, jnp.tan: 3},
    "mapping": lambda i: types.MappingProxyType({"a": i}),
    "ordered": lambda i: collections.OrderedDict(a=i),
    "deque": lambda i: collections.deque([1, i]),
    "subclass of dict": lambda i: _own(str(i)),
    "named tuple": lambda i: Pair(i),
    "path": lambda i: pathlib.Path(str(i)),
    "range": lambda i: range(i),
    "enum": lambda i: Color.RED if i else None,
    "Fraction": lambda i: fractions.Fraction(1, i + 2),
    "Decimal": lambda i: Decimal(i),
    "subclass of Decimal": lambda i: Amount(i),
    "slots": lambda i: Slots(i),
    "attribute": lambda i: Holder(value=i),
    "private attribute": lambda i: Holder(_value=i),
    "no field": lambda i: Prepared(i),
    "partial": lambda i: functools.partial(jnp.sum, axis=i),
    "partial argument": lambda i: functools.partial(jnp.add, i),
    "operator": lambda i: operator.itemgetter(i),
    "bound method": lambda i: Method(i).call,
    "bound method in C": lambda i: str(i).join,
    "closure": lambda i: _closes_over(i),
    "array in a closure": lambda i: _closes_over(jnp.full(2, i)),
    "vmap": lambda i: jax.vmap(_closes_over(i)),
    "axes of vmap": lambda i: jax.vmap(operator.add, (0, i)),
    "jit": lambda i: jax.jit(_closes_over(i)),
    "filter_jit": lambda i: eqx.filter_jit(_closes_over(i)),
    "filter_vmap": lambda i: eqx.filter_vmap(_closes_over(i)),
    "grad": lambda i: jax.grad(_closes_over(i)),
    "checkpoint": lambda i: jax.checkpoint(_closes_over(i)),
    "custom_jvp": lambda i: _relu(i),
    "lru_cache": lambda i: functools.lru_cache(_closes_over(i)),
    "optimiser": lambda i: optax.adam(1e-3 * (i + 1)),
    "part of an optimiser": lambda i: optax.chain(optax.clip(i), optax.sgd(0.1)),
    "schedule": lambda i: optax.cosine_decay_schedule(1.0, 10 + i),
    "generator": _generator,
    "logger": lambda i: logging.getLogger(f"users.{i}"),
    "text of numpy": lambda i: np.array([str(i)], np.dtypes.StringDType()),
    "date": lambda i: datetime.date(2000, 1, i + 1),
    "model": lambda i: eqx.nn.MLP(1, 1, 2, 1, key=jr.key(i)),
    "activation": lambda i: eqx.nn.Lambda(jnp.tanh if i else jnp.sin),
    "policy": lambda i: rx.MLPPolicy(2, 1, 4 + i, 1, key=jr.key(0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_object(kind: str) -> None:
    make = KINDS[kind]
    one, two, other = configuration(make(0)), configuration(make(0)), make(1)
    assert one == two
    assert one != configuration(other)
    assert content_digest(make(0)) == content_digest(make(0)) != content_digest(other)
    assert " at 0x" not in json.dumps(one), "addresses differ between processes"
    assert _same(Holder(a=make(0), b=make(0)), Holder(**dict.fromkeys("ab", make(0))))


IN_A_PROCESS = """
import json
import tests.conftest
from tests.test_fingerprint import KINDS, Holder
import jax.numpy as jnp, optax
import realax as rx
from realax._storage._fingerprint import configuration

NAMES = {"a", "b", "c", "d"}
def task(x, key, data=None):
    return sum(len(n) for n in NAMES) * (key in {"x", "y", "z", 3}) * x, None

trainer = rx.EvosaxTrainer(5, "SNES", task, jnp.ones(2))
shared = [1.0, {2}, optax.adam(0.1)]
tasks = [trainer, rx.GymnaxTask("CartPole-v1"), Holder(a=shared, b=shared)]
print(json.dumps([configuration(x) for x in [*tasks, *(k(0) for k in KINDS.values())]]))
"""


def test_another_process_finds_the_same(tmp_path: pathlib.Path, capsys: Any) -> None:
    scripts = [tmp_path / name / "script.py" for name in ("here", "there")]
    for script in scripts:
        script.parent.mkdir()
        script.write_text(IN_A_PROCESS)
    runpy.run_path(str(scripts[0]), run_name="__main__")
    here = json.loads(capsys.readouterr().out)
    # Sets of strings are ordered by the seed.
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    result = subprocess.run(
        [sys.executable, str(scripts[1])],
        env=environment(PYTHONPATH=str(ROOT), PYTHONHASHSEED=seed),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == here
    assert here[3:] == [configuration(kind(0)) for kind in KINDS.values()]


TASK = """
import functools
import jax, jax.numpy as jnp
import numpy as np

SCALE = 2.0
TABLE = np.arange(3.0)

def helper(x):
    return jnp.sum(x)

def unused(x):
    return x

def decorator(function):
    @functools.wraps(function)
    def wrapper(*args):
        return 1.0 * function(*args)
    return wrapper

def make(target):
    class Inner:
        "A note."
        def call(self, x):
            return (x - target) * SCALE
    return Inner()

class Base:
    offset = 1
    _private = 3
    def distance(self, x):
        return helper(x) + self.offset + self._private

class Task(Base):
    maximize = False
    def __call__(self, x, key, data=None):
        '''A docstring.'''
        return jnp.sum(self.distance(x) * SCALE), None
    @property
    def width(self):
        return 3
    @staticmethod
    def twice(x):
        return 2 * x

@decorator
def function(x, key, data=None, *, power=2):
    '''A docstring.'''
    # A comment.
    inner = lambda y: y * TABLE[0]
    if x in ("a", "b"):
        raise KeyError
    return inner(helper(x) ** power) * SCALE, None

def nested(x):
    class Local:
        "A local note."
        def call(self):
            return x + 1
    return Local().call()

task = (Task(), function, make(1.0), nested)
"""
CHANGES: dict[str, tuple[str, str]] = {
    "a constant": ("SCALE = 2.0", "SCALE = 3.0"),
    "an array": ("np.arange(3.0)", "np.arange(1.0, 4.0)"),
    "a helper": ("return jnp.sum(x)", "return jnp.mean(x)"),
    "a constant in code": ("y * TABLE[0]", "y * TABLE[1]"),
    "a constant of another kind": ("1.0 * function", "1 * function"),
    "a set": ('("a", "b")', '("a", "c")'),
    "a default": ("power=2", "power=3"),
    "an operator": ("- target", "+ target"),
    "a decorator": ("1.0 * function", "-1.0 * function"),
    "no decorator": ("@decorator", ""),
    "a class attribute": ("offset = 1", "offset = 2"),
    "a private attribute": ("_private = 3", "_private = 4"),
    "a flag": ("maximize = False", "maximize = True"),
    "a method of a base": ("return helper(x) +", "return helper(x) -"),
    "a property": ("return 3", "return 4"),
    "a static method": ("2 * x", "3 * x"),
    "a value in a closure": ("make(1.0)", "make(5.0)"),
    "a function of the library": ("return jnp.sum(self", "return jnp.prod(self"),
    "an exception": ("raise KeyError", "raise ValueError"),
    "a keyword-only argument": ("data=None, *, power", "data=None, power"),
}
SAME: dict[str, tuple[str, str]] = {
    "a comment": ("# A comment.", "# Another one."),
    "docstrings": ("A docstring.", "Another one."),
    "no docstring": ("'''A docstring.'''", ""),
    "a docstring of a class": ("A note.", "Another note."),
    "a docstring of a class in a function": ("A local note.", "Another note."),
    "lines": ("\ndef helper", "\n\n\n\ndef helper"),
    "an unused function": ("    return x\n", "    return -x\n"),
    "parentheses": ("return 3", "return (3)"),
    "jit": ("@decorator", "@jax.jit\n@decorator"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_code_counts(change: str) -> None:
    before, after = CHANGES[change]
    assert before in TASK
    assert _counts(TASK, TASK.replace(before, after))


@pytest.mark.parametrize("change", SAME)
def test_changes_without_effect_do_not_count(change: str) -> None:
    before, after = SAME[change]
    assert before in TASK
    assert not _counts(TASK, TASK.replace(before, after))


def test_modules_of_the_user() -> None:
    source = "import users_helpers as helpers\ndef task(x): return helpers.cost(x)"
    helpers = "def cost(x): return x\ndef other(x): return x"
    _module(helpers, "users_helpers")
    before = configuration(_module(source).task)
    _module(
        helpers.replace("other(x): return x", "other(x): return 2"), "users_helpers"
    )
    assert before == configuration(_module(source).task)
    changed = helpers.replace("cost(x): return x", "cost(x): return -x")
    _module(changed, "users_helpers")
    assert before != configuration(_module(source).task)


def test_installed_code_counts_by_name() -> None:
    for installed in (jax.nn.gelu, optax.adam(1e-3), rx.GymnaxTask("CartPole-v1")):
        assert not any("(code)" in name for name in configuration(installed))
    assert " (code)" in configuration(rastrigin)


def test_wrappers_that_compute_the_same() -> None:
    def task(x: float) -> float:
        return x

    plain = configuration(task)
    wrappers = [
        jax.jit,
        eqx.filter_jit,
        beartype,
        jaxtyped(typechecker=beartype),
        lambda f: jax.jit(eqx.filter_jit(beartype(f))),
    ]
    for wrap in wrappers:
        assert configuration(wrap(task)) == plain

    @functools.wraps(task)
    def negated(x: float) -> float:
        return -task(x)

    assert configuration(negated) != plain
    made_by = configuration(jax.jit(negated))["#"]
    assert ".task, made by " in made_by and made_by.endswith("negated")


class Scaled(rx.AbstractTask[Any]):
    maximize: bool = False
    factor: ClassVar[Any] = 2.0

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(params) * self.factor, None


def test_class_variables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = configuration(Scaled())
    monkeypatch.setattr(Scaled, "factor", jnp.full(2, 3.0))
    assert configuration(Scaled()) != before


def test_code_of_another_python_is_not_compared() -> None:
    code = "task (code)"
    then = {code: "cpython-311 aaaa", "a": "1"}
    assert differences(then, {code: "cpython-312 bbbb", "a": "1"}) == []
    assert differences(then, {code: "cpython-311 bbbb", "a": "1"}) == [
        "task (code): cpython-311 aaaa then, cpython-311 bbbb now"
    ]
    assert len(differences(then, {"a": "1"})) == 1


def test_execution_is_kept_apart() -> None:
    def task(**kws: Any) -> Any:
        return rx.GymnaxTask("CartPole-v1", **kws)

    assert _same(task(), task(lanes=8, chunk=4))
    assert execution(task(lanes=8, chunk=4)) == {"lanes": "8", "chunk": "4"}

    def trainer(n_devices: int, lanes: int) -> Any:
        policy = rx.MLPPolicy(4, 2, 4, 1, key=jr.key(0))
        return rx.EvosaxTrainer(
            5, "SNES", task(lanes=lanes), policy, popsize=4, n_devices=n_devices
        )

    assert _same(trainer(1, 0), trainer(2, 8))
    found = execution(trainer(2, 8))
    assert found["n_devices"] == "2" and found["task.lanes"] == "8"


def test_a_logger_counts_by_name() -> None:
    found = configuration(Holder(log=logging.getLogger("users")))
    assert len(found) < 10, "a logger refers to all other loggers"


def test_objects_that_cannot_be_compared_are_left_out() -> None:
    lock = threading.Lock()
    for value in (lock, (i for i in range(3)), weakref.ref(Holder), sys.stdout):
        assert configuration(Holder(value=value))


def test_leave_out() -> None:
    value = Holder(a=1, b=Holder(a=2))
    found = configuration(value, ("a",))
    assert ".b.a" in found and ".a" not in found, "applies to the outermost object only"


def _make_task(target: float) -> Any:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum((x - target) ** 2), None

    return task


def test_another_closure_is_another_run(tmp_path: pathlib.Path) -> None:
    def run(target: float) -> Any:
        return rx.evolve(
            jnp.ones(2),
            _make_task(target),
            jr.key(0),
            strategy="SNES",
            popsize=8,
            steps=5,
            use_scan=False,
            callbacks=rx.Checkpointer(tmp_path),
        )

    run(0.0)
    run(0.0)
    with pytest.raises(ValueError, match=r"task.*target: 0\.0 then, 5\.0 now"):
        run(5.0)


RUN = """
import sys
import jax, jax.numpy as jnp
import realax as rx

def task(x, key, data=None):
    # {comment}
    return jnp.sum((x - {target}) ** 2), None

trainer = rx.EvosaxTrainer(5, "SNES", task, jnp.ones(2), popsize=8,
                           callbacks=rx.Checkpointer(sys.argv[1]))
print(int(trainer.init_and_train_(jax.random.key(0)).step))
"""


def test_changed_code_is_refused_in_another_process(tmp_path: pathlib.Path) -> None:
    def run(folder: str, **changes: str) -> Any:
        script = tmp_path / folder / "script.py"
        script.parent.mkdir()
        script.write_text(RUN.format(**changes))
        return subprocess.run(
            [sys.executable, str(script), str(tmp_path / "checkpoints")],
            env=environment(PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=200,
        )

    assert run("a", target="1.0", comment="First.").stdout == "5\n"
    assert run("b", target="1.0", comment="Second.\n").stdout == "5\n"
    refused = run("c", target="2.0", comment="First.")
    assert refused.returncode == 1
    words = "holds another run. What differs: task.function (code): cpython"
    assert words in refused.stderr


def test_environments_by_name_and_by_instance() -> None:
    env, _ = gymnax.make("CartPole-v1")
    longer = rx.GymnaxTask("CartPole-v1", env_params={"gravity": 9.0})
    assert not _same(rx.GymnaxTask("CartPole-v1"), longer)
    assert _same(rx.GymnaxTask(env), rx.GymnaxTask(gymnax.make("CartPole-v1")[0]))
    assert len(configuration(rx.GymnaxTask(env))) < 100


def test_a_run_on_an_instance_of_brax(tmp_path: pathlib.Path) -> None:
    """Such an environment holds modules and shares its parts."""
    named = rx.BraxTask("fast", 4)
    assert len(configuration(named)) < 100
    import brax.envs  # after realax has imported it, without its warnings

    def run() -> Any:
        # A new instance each time, because this one counts how often it is traced.
        task = rx.BraxTask(brax.envs.get_environment("fast"), 4)
        assert len(configuration(task)) < 100
        assert Walk().node(task, "").size < 1000
        policy = rx.MLPPolicy(*task.space[:2], width=2, depth=1, key=jr.key(0))
        trainer = rx.EvosaxTrainer(
            2, "SNES", task, policy, popsize=2, callbacks=rx.Checkpointer(tmp_path)
        )
        return trainer.init_and_train(jr.key(0))

    assert len(run()[1]["metrics"]["failed"]) == 2
    state, record = run()
    assert int(state.step) == 2 and len(record["metrics"]["failed"]) == 0


def test_attributes_of_functions_and_private_slots() -> None:
    class Private:
        __slots__ = ("a", "__b")

        def __init__(self, b: float):
            self.a, self.__b = 1, b

    assert configuration(Private(0.0)) != configuration(Private(5.0))
    assert configuration(Private(5.0)) == configuration(Private(5.0))

    def make(value: float) -> Any:
        def task(x: Any, key: Any, data: Any = None) -> Any:
            return x - task.value, None  # pyright: ignore[reportFunctionMemberAccess]

        task.value = value  # pyright: ignore[reportFunctionMemberAccess]
        return task

    assert configuration(make(0.0)) != configuration(make(5.0))
    assert configuration(make(5.0)) == configuration(make(5.0))
