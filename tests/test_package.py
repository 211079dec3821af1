"""The package as a whole: its layers, imports and version."""

import ast
import pathlib
import re
import sys

import pytest

import realax as rx

from .helpers import ROOT, python


PACKAGE = ROOT / "realax"
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = ["", "policies", "tasks", "training", "meta", "plot"]


def _layer(module: tuple[str, ...]) -> int:
    return LAYERS.index(module[0]) if module and module[0] in LAYERS else 0


def _imports(file: pathlib.Path) -> list[tuple[str, ...]]:
    """Return the modules of the package that a file imports, as paths inside it."""
    here = file.relative_to(PACKAGE).with_suffix("").parts
    found: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            target = tuple((node.module or "").split(".")) if node.module else ()
            if node.level == 0:
                assert target[0] != "realax", f"{file}: import relatively"
                continue
            base = here[: len(here) - node.level]
            found += [(*base, *target, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "realax" for alias in node.names)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_downward(file: pathlib.Path) -> None:
    here = file.relative_to(PACKAGE).parts
    if here == ("__init__.py",):
        return  # the package exports from all layers
    for module in _imports(file):
        assert _layer(module) <= _layer(here), f"{file} imports {'.'.join(module)}"


def test_the_walk_sees_upward_imports() -> None:
    assert ("tasks", "AbstractTask") in _imports(PACKAGE / "training" / "_evaluate.py")
    assert _layer(("training", "_base")) > _layer(("tasks", "_env.py"))


def test_nothing_heavy_is_imported() -> None:
    heavy = ["gymnax", "brax", "wandb", "matplotlib", "pandas", "seaborn"]
    code = f"import sys, realax; print([m for m in {heavy} if m in sys.modules])"
    result = python("-c", code)
    assert result.stdout == "[]\n", result.stderr


def test_a_gymnax_name_imports_what_it_needs() -> None:
    """Its drawing libraries, and brax, take four times as long as gymnax itself."""
    heavy = ["brax", "matplotlib.pyplot", "pandas", "scipy.stats", "seaborn"]
    code = (
        "import sys, realax\n"
        "realax.GymnaxTask('CartPole-v1'), realax.make('CartPole-v1')\n"
        "realax.ENV_SPACES['CartPole-v1']\n"
        f"print([m for m in {heavy} if m in sys.modules])\n"
        "import gymnax.environments.misc.pong as pong, seaborn, matplotlib.pyplot\n"
        "print(pong.plt.figure is matplotlib.pyplot.figure)\n"
        "print(pong.sns.color_palette is seaborn.color_palette)"
    )
    result = python("-W", "ignore", "-c", code)
    assert result.stdout == "[]\nTrue\nTrue\n", result.stderr


def test_a_module_is_imported_when_it_is_used(tmp_path: pathlib.Path) -> None:
    (tmp_path / "slow_library").mkdir()
    (tmp_path / "slow_library" / "__init__.py").write_text("print('library')")
    (tmp_path / "slow_library" / "part.py").write_text("print('part'); value = 1")
    (tmp_path / "its_user.py").write_text(
        "import slow_library.part as part, missing_library, json\n"
        "print('user', json.dumps(0))"
    )
    code = (
        "import cloudpickle, pickle, sys\n"
        "from realax._import_lazily import imported_lazily\n"
        "with imported_lazily('slow_library.part', 'missing_library', 'json'):\n"
        "    import its_user\n"
        "print('slow_library.part' in sys.modules)\n"
        "print(its_user.part.value, 'slow_library.part' in sys.modules)\n"
        "again = pickle.loads(cloudpickle.dumps(its_user.part))\n"
        "print(again is sys.modules['slow_library.part'])\n"
        "try:\n"
        "    its_user.missing_library.value\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name)"
    )
    result = python("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}")
    assert result.stdout.split("\n") == [
        "library",
        "user 0",
        "False",
        "part",
        "1 True",
        "True",
        "missing_library",
        "",
    ], result.stderr


def test_the_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", rx.__version__)
    assert f"## {rx.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert sys.version_info >= (3, 12)
