"""Set-up for every test: two CPU devices, and programs compiled once for all runs."""

import contextlib
import gc
import itertools
import os
import pathlib
import sys
import time
from collections.abc import Generator
from typing import Any

import jax
import pytest


# A program is compiled by one thread: two test processes have two cores.
ONE_THREAD = "--xla_cpu_parallel_codegen_split_count=1"
if ONE_THREAD not in os.environ.get("XLA_FLAGS", ""):  # else it is a test's process
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
jax.config.update("jax_num_cpu_devices", 2)
# Tests start many processes, in which `import realax` takes a second longer without.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
STARTUP = str(pathlib.Path(__file__).with_name("startup"))
if STARTUP not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    paths = STARTUP, os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
# One folder for all clones of the repository.
CACHE = (
    pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    / "realax"
    / "tests"
)
DAYS_KEPT = 14
LONGEST = "hosts", "examples", "host", "every_trainer", "checkpoint", "every_learner"
SETTINGS: dict[str, Any] = {
    "jax_compilation_cache_dir": str(CACHE),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for name, value in SETTINGS.items():
    jax.config.update(name, value)
# Programs compile in half the time. Those of other processes are as users have them.
jax.config.update("jax_disable_most_optimizations", True)


def pytest_configure(config: pytest.Config) -> None:
    """Delete old programs, of which most are of code that has changed since."""
    if hasattr(config, "workerinput"):
        return
    oldest = time.time() - 24 * 3600 * DAYS_KEPT
    for path in CACHE.glob("*"):
        # Another run of the tests may delete it first.
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that both processes end at once.

    All tests of a row of a battery are run in a row, while its programs are kept.
    """
    files = {f"tests/test_{name}.py": i for i, name in enumerate(LONGEST)}
    rows = dict[str, int]()

    def place(item: pytest.Item) -> tuple[int, int]:
        spec: Any = getattr(item, "callspec", None)
        row = None if spec is None else spec.params.get("row")
        name = getattr(row, "name", None)
        file = files.setdefault(item.nodeid.partition("::")[0], len(files))
        return file, -1 if name is None else rows.setdefault(name, len(rows))

    items.sort(key=place)


@pytest.fixture
def optimized() -> Generator[None]:
    """Compile as users do; for long runs, and last bits of different programs."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


# To look for garbage among a million objects that stay took a tenth of the tests' time.
gc.set_threshold(50_000, 20, 20)
TESTS_BETWEEN_LOOKS = 10
_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def few_memory_maps() -> Generator[None]:
    """Linux gives a process 65 530 memory maps, of which a program takes ten or more.

    Past the limit XLA crashes. Counted on Linux only; elsewhere there is no such limit.
    """
    yield
    if next(_tests) % TESTS_BETWEEN_LOOKS:
        return
    maps = pathlib.Path("/proc/self/maps")
    # To count 20 000 takes 30 ms, as long as many a test.
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
        gc.collect()
