"""Compilation: programs in memory and on disk, XLA's options, readable errors."""

from ._errors import readable_errors as readable_errors
from ._options import (
    FAST_COMPILATION as FAST_COMPILATION,
    checked_options as checked_options,
)
from ._persistent import enable_compilation_cache as enable_compilation_cache
from ._programs import (
    PROGRAMS as PROGRAMS,
    call_compiled as call_compiled,
    compiled as compiled,
)
