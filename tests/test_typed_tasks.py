"""`tests/typed/tasks.py` runs; pyright checks it strictly beside the library."""

from .helpers import ROOT, python


def test_typed_tasks() -> None:
    result = python(str(ROOT / "tests" / "typed" / "tasks.py"))
    assert result.returncode == 0, result.stderr
