"""Run-time type checks, which an import hook adds to the functions of a package."""

import importlib
import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import beartype
import beartype.roar
import jax
import jax.numpy as jnp
import jaxtyping
import pytest

import realax as rx
from realax._import_hook import checks_of

from .helpers import python


MODULE = '''
"""A module of every kind of function."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float

from realax._check import no_type_check


def plain(x: Float[Array, "n"], y: Float[Array, "n"]) -> Float[Array, "n"]:
    return x + y


@functools.lru_cache
def decorated(x: int) -> str:
    return str(x)


def wrong_result(x: int) -> str:
    return x


def outer(x: object) -> object:
    def inner(y: int) -> int:
        return y

    return inner(x)


@no_type_check
def exempt(x: int) -> int:
    return x


if True:
    def conditional(x: int) -> int:
        return x


class Module(eqx.Module):
    field: Float[Array, "n"]

    def method(self, x: Float[Array, "n"]) -> object:
        return self.field + x

    @property
    def wrong(self) -> str:
        return 1

    @classmethod
    def of(cls, x: int) -> object:
        return x

    @staticmethod
    def static(x: int) -> object:
        return x


class Child(Module):
    def __init__(self, size: int) -> None:
        self.field = size


class Grandchild(Child):
    more: int = 0


def converting(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def converted(self: object, size: str) -> None:
        init(self, int(size))

    return converted


class Decorated(eqx.Module):
    size: int

    @converting
    def __init__(self, size: int) -> None:
        self.size = size


@dataclasses.dataclass
class Data:
    number: int


@no_type_check
class Exempt(eqx.Module):
    number: int
'''


@pytest.fixture
def load(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Any]:
    """A function that imports a module of the given text with checks."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "checked_package").mkdir()
    (tmp_path / "checked_package" / "__init__.py").touch()

    def load(text: str) -> Any:
        (tmp_path / "checked_package" / "module.py").write_text(text)
        for name in "checked_package.module", "checked_package":
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        with checks_of("checked_package"):
            return importlib.import_module("checked_package.module")

    return load


def test_every_kind_of_function(load: Callable[[str], Any]) -> None:
    module = load(MODULE)
    two, three = jnp.ones(2), jnp.ones(3)
    good = module.Module(two)
    assert jnp.all(module.plain(two, two) == 2) and jnp.all(good.method(two) == 2)
    assert module.decorated(1) == "1" and module.outer("x") == "x"
    assert module.exempt("x") == "x" and module.Exempt("x").number == "x"
    assert module.Decorated("1").size == 1  # its decorator converts before the check
    assert module.Module.of(1) == module.Module.static(1) == 1
    wrong: list[Callable[[], Any]] = [
        lambda: module.plain(two, three),
        lambda: module.decorated("x"),
        lambda: module.wrong_result(1),
        lambda: module.conditional("x"),
        lambda: module.Module(1),
        lambda: good.method(1),
        lambda: good.wrong,
        lambda: module.Module.of("x"),
        lambda: module.Module.static("x"),
        lambda: module.Child("x"),
        lambda: module.Grandchild("x"),
        lambda: module.Data("x"),
    ]
    for call in wrong:
        with pytest.raises(jaxtyping.TypeCheckError, match="checked_package.module"):
            call()


def test_functions_look_as_they_are_written(load: Callable[[str], Any]) -> None:
    module = load(MODULE)
    assert inspect.getsource(module.plain).startswith("def plain(x")
    assert inspect.getsource(module.Module.method).startswith("    def method(self")
    assert inspect.getsource(module.Data).startswith("@dataclasses.dataclass\nclass")
    assert [*inspect.signature(module.plain).parameters] == ["x", "y"]
    assert module.plain.__name__ == "plain"
    annotations = {**module.plain.__annotations__}
    module.plain(jnp.ones(2), jnp.ones(2))
    assert module.plain.__annotations__ == annotations
    assert inspect.getsource(rx.MLPPolicy).startswith("class MLPPolicy(")
    assert jnp.all(jax.jit(module.plain)(jnp.ones(2), jnp.ones(2)) == 2)


def test_only_the_package_is_checked(load: Callable[[str], Any]) -> None:
    """Neither others nor what is imported afterwards."""
    module = load("def f(x: int) -> int:\n    return x\n")
    with pytest.raises(jaxtyping.TypeCheckError):
        module.f("x")
    for name in "checked_package.module", "checked_package":
        del sys.modules[name]
    assert importlib.import_module("checked_package.module").f("x") == "x"
    sys.modules.pop("checked_package.module")
    with checks_of("checked"):
        assert importlib.import_module("checked_package.module").f("x") == "x"


def test_compiled_files(load: Callable[[str], Any], tmp_path: pathlib.Path) -> None:
    """They are read, made anew when the source changes, and apart from Python's own."""
    load("def f(x: int) -> int:\n    return x\n")
    (file,) = (tmp_path / "checked_package" / "__pycache__").glob("module*")
    assert ".checked-" in file.name
    written = file.stat().st_mtime_ns
    for name in "checked_package.module", "checked_package":
        del sys.modules[name]
    with checks_of("checked_package"):
        importlib.import_module("checked_package.module")
    assert file.stat().st_mtime_ns == written
    changed = load("def f(x: int) -> int:\n    return x + 1\n")
    assert changed.f(1) == 2
    with pytest.raises(jaxtyping.TypeCheckError):
        changed.f("x")


def test_a_syntax_error_is_shown_where_it_is(load: Callable[[str], Any]) -> None:
    with pytest.raises(SyntaxError) as error:
        load("x = 1\ny = (\n")
    assert error.value.filename is not None
    assert error.value.filename.endswith("module.py") and error.value.lineno == 2


def test_checks_can_be_switched_off() -> None:
    code = (
        "import os; os.environ['JAXTYPING_DISABLE'] = '1'\n"
        "import jax, realax as rx\n"
        "rx.MLPPolicy(4.0, 2, 8, 1, key=jax.random.key(0))\n"
        "rx.ObsStats(0, 0, 0); print('unchecked')"
    )
    assert python("-c", code).stdout == "unchecked\n"
    with pytest.raises(jaxtyping.TypeCheckError):
        rx.ObsStats(0, 0, 0)  # pyright: ignore


def test_importing_builds_few_checks() -> None:
    code = (
        "import beartype\n"
        "made = beartype.beartype; n = [0]\n"
        "def counted(*args, **kws):\n"
        "    n[0] += 1; return made(*args, **kws)\n"
        "beartype.beartype = counted\n"
        "import realax as rx; before = n[0]\n"
        "import jax; rx.MLPPolicy(4, 2, 8, 1, key=jax.random.key(0)); print(*n, before)"
    )
    after, before = map(int, python("-c", code).stdout.split())
    # One for each function that was called while modules were imported.
    assert before < 50 and before < after < before + 10


CALLS = '''
"""Functions that call others."""

import contextlib
from collections.abc import Callable, Generator

from jaxtyping import Array, Float


def once(function: Callable[[], object]) -> object:
    return function()


def outer(x: Float[Array, "n"], y: Float[Array, "m"]) -> Float[Array, "n"]:
    inner(y)
    return x


def inner(x: Float[Array, "n"]) -> None:
    del x


def shorter(x: Float[Array, "n"]) -> Float[Array, "n"]:
    return x[1:]


@contextlib.contextmanager
def context(x: Float[Array, "n"]) -> Generator[int]:
    yield len(x)
'''


def test_each_call_has_its_own_axes(load: Callable[[str], Any]) -> None:
    module = load(CALLS)
    two, three = jnp.ones(2), jnp.ones(3)
    assert module.outer(two, three) is two
    assert module.outer(three, two) is three
    with module.context(two) as found:
        assert found == 2
    with pytest.raises(jaxtyping.TypeCheckError):
        module.context(jnp.ones((2, 2)))


def test_an_error_says_what_is_wrong(load: Callable[[str], Any]) -> None:
    module = load(CALLS)
    wrong = r"(?s)parameters of checked_package.module.outer.*parameter 'y'.*i32\[3\]"
    with pytest.raises(jaxtyping.TypeCheckError, match=wrong):
        module.outer(jnp.ones(2), jnp.arange(3))
    wrong = r"(?s)return value of checked_package.module.shorter.*Float\[Array, 'n'\]"
    with pytest.raises(jaxtyping.TypeCheckError, match=wrong):
        module.shorter(jnp.ones(3))


def test_an_error_of_what_a_function_calls_is_its_own(
    load: Callable[[str], Any],
) -> None:
    module, calls = load(CALLS), list[int]()

    @beartype.beartype
    def picky(x: int) -> int:
        return x

    def fails() -> None:
        calls.append(1)
        picky("a")  # pyright: ignore[reportArgumentType]

    with pytest.raises(beartype.roar.BeartypeCallHintParamViolation) as error:
        module.once(fails)
    assert len(calls) == 1, "it is not called again for a message"
    assert not getattr(error.value, "__notes__", None)
