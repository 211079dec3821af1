"""`tests/typed/tasks.py` runs; pyright checks it strictly beside the library."""

import pytest

from .helpers import ROOT, python


@pytest.mark.slow
def test_typed_tasks() -> None:
    result = python(str(ROOT / "tests" / "typed" / "tasks.py"))
    assert result.returncode == 0, result.stderr
