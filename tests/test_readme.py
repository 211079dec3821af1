"""Every Python block of the README runs, in order, in one namespace for each file."""

import contextlib
import re
from collections.abc import Generator
from typing import Any

import pytest

from .helpers import ROOT


README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 3


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Any]]:
    # In a folder of its own: what a run before saved would be gone on with.
    with contextlib.chdir(tmp_path_factory.mktemp("readme")):
        yield {"__name__": "readme"}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number: int, namespace: dict[str, Any]) -> None:
    exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), namespace)


def test_the_two_commands() -> None:
    commands = re.findall(r"^python3\.12 -m venv .*$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("python examples/evolve_brax.py")
    assert commands[1].endswith(".venv/bin/pytest")
    assert README.index(commands[1]) < 900, "the README opens with them"
