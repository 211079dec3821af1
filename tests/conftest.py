"""Set-up for every test: two CPU devices, and programs compiled once for all runs."""

import gc
import pathlib
from collections.abc import Generator
from typing import Any

import jax
import pytest


jax.config.update("jax_num_cpu_devices", 2)
CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "xla"
SETTINGS: dict[str, Any] = {
    "jax_compilation_cache_dir": str(CACHE),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for name, value in SETTINGS.items():
    jax.config.update(name, value)
# Programs compile in half the time. Those of other processes are as users have them.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def optimized() -> Generator[None]:
    """Compile as users do; for tests that compare last bits of different programs."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def few_memory_maps() -> Generator[None]:
    """Linux gives a process 65 530 memory maps, and a compiled program takes ten.

    Past the limit XLA crashes. Counted on Linux only; elsewhere there is no such limit.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 25_000:
        jax.clear_caches()
        gc.collect()
