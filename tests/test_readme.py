"""Every Python block of the README and of the guides runs, page by page, in order."""

import pathlib
import re

import pytest

from .helpers import ROOT


README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
LONG = "README.md", "reinforcement_learning.md"
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.name in LONG else [])
        for page in PAGES
    ],
    ids=[page.name for page in PAGES],
)
def test_page(
    page: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An empty folder: checkpoints of an earlier run would be resumed.
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": page.stem}
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        # A traceback then shows the line of the page.
        above = "\n" * text[: block.start(1)].count("\n")
        exec(compile(above + block[1], page, "exec"), namespace)


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / name / "README.md" for name in ("examples", "benchmarks"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links(page: pathlib.Path) -> None:
    for link in LINK.findall(page.read_text()):
        assert (page.parent / link).exists(), link


def test_readme_is_short() -> None:
    text = README.read_text()
    assert text.count("\n") < 120
    assert text.count("```python") >= 3


def test_the_two_commands() -> None:
    text = README.read_text()
    commands = re.findall(r"^python3\.12 -m venv .*$", text, flags=re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("python examples/evolve_brax.py")
    assert commands[1].endswith(".venv/bin/pytest")
    assert text.index(commands[1]) < 900, "the README opens with them"


@pytest.mark.parametrize("folder", ["examples", "benchmarks"])
def test_every_script_is_listed(folder: str) -> None:
    listed = set(re.findall(r"`(\w+\.py)`", (ROOT / folder / "README.md").read_text()))
    scripts = {path.name for path in (ROOT / folder).glob("[!_]*.py")}
    assert scripts <= listed, scripts - listed
