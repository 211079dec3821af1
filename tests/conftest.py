"""Set-up for every test: two CPU devices, and programs compiled once for all runs."""

import pathlib
from typing import Any

import jax


jax.config.update("jax_num_cpu_devices", 2)
CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "xla"
SETTINGS: dict[str, Any] = {
    "jax_compilation_cache_dir": str(CACHE),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for name, value in SETTINGS.items():
    jax.config.update(name, value)
