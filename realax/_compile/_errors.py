"""Errors of compiled programs in their own words."""

import logging
from typing import Any, final

import equinox as eqx
import jax

from .._check import no_type_check


class readable_errors:
    """A context in which errors of `eqx.error_if` are raised as such."""

    __slots__ = ("_quiet",)

    def __enter__(self) -> None:
        # What jax writes of a failed callback is long, and says less than the error.
        self._quiet = _Quiet()
        _LOG.addFilter(self._quiet)

    @no_type_check
    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        del kind, traceback
        _LOG.removeFilter(self._quiet)
        if isinstance(error, jax.errors.JaxRuntimeError | ValueError):
            _, marked, message = str(error).partition("_EquinoxRuntimeError: ")
            if marked:
                text = message.partition("\n\n\n---")[0]
                raise eqx.EquinoxRuntimeError(text) from None


_LOG = logging.getLogger("jax._src.callback")


@final
class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.getMessage() != "jax.pure_callback failed"
