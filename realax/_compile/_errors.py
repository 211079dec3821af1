"""Errors of compiled programs without the report of jax around them."""

import logging
from typing import Any, final

import equinox as eqx
import jax

from .._check import no_type_check


class readable_errors:
    """A context that raises errors of `eqx.error_if` as `EquinoxRuntimeError`.

    Inside a compiled program, jax wraps such an error into a long one of its own.
    """

    __slots__ = ("_filter",)

    @no_type_check
    def __enter__(self) -> None:
        # jax logs a long report of the failed callback, which says less than the error.
        self._filter = _CallbackFilter()
        _LOG.addFilter(self._filter)

    @no_type_check
    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        del kind, traceback
        _LOG.removeFilter(self._filter)
        if isinstance(error, jax.errors.JaxRuntimeError | ValueError):
            _, marked, message = str(error).partition("_EquinoxRuntimeError: ")
            if marked:
                text = message.partition("\n\n\n---")[0]
                raise eqx.EquinoxRuntimeError(text) from None


_LOG = logging.getLogger("jax._src.callback")


@final
class _CallbackFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.getMessage() != "jax.pure_callback failed"
