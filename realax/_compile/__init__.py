"""Compilation: programs in memory and on disk, XLA's options, readable errors."""

from ._collector import no_collections as no_collections
from ._errors import readable_errors as readable_errors
from ._options import (
    FAST_COMPILATION as FAST_COMPILATION,
    UNDIVIDED_LOOPS as UNDIVIDED_LOOPS,
    checked_options as checked_options,
)
from ._persistent import enable_compilation_cache as enable_compilation_cache
from ._programs import (
    PROGRAMS as PROGRAMS,
    Compiled as Compiled,
    call_compiled as call_compiled,
    compiled as compiled,
)
