"""The error of a run whose other processes are gone, or have ended it."""

import re

import jax


class PeerError(RuntimeError):
    """Error for a run that another process has ended, or that it no longer answers."""


# The status with which XLA's own errors begin, and what the libraries behind
# collectives write when a connection breaks.
_STATUS = re.compile(
    "(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|"
    "FAILED_PRECONDITION): "
)
_BROKEN = re.compile(
    "gloo|nccl|rccl|connection (closed|reset) by peer|socket closed|"
    "coordination service",
    re.IGNORECASE,
)


def lost_peer(error: BaseException) -> PeerError | None:
    """Return the error to raise for a collective that failed.

    **Arguments:**

    - `error`: an error of jax. Any other gives `None`.
    """
    # jax raises a `ValueError` for a program that it runs at once.
    if not isinstance(error, jax.errors.JaxRuntimeError | ValueError):
        return None
    text = str(error)
    if not (_STATUS.match(text) and _BROKEN.search(text)):
        return None
    return PeerError(
        f"process {jax.process_index()} cannot reach another process of this run, "
        "which probably was killed, or has ended by an error: see its output. Start "
        "all processes again with the same command; a run with a `Checkpointer` goes "
        f"on from its last checkpoint. jax says: {text.splitlines()[0][:200]}"
    )
