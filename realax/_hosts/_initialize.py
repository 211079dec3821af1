"""The start of a program on several processes."""

from typing import Any, SupportsFloat

import jax

from .._arguments import arguments, number


# By itself, jax notices a process that is gone after 100 seconds, and waits for it 300
# at the end.
_SECONDS = 10


class _Settings:
    """The settings of this process.

    - `stall`: for how many seconds the processes of a run may be without agreement.
    """

    stall: float = 600.0


settings = _Settings()


@arguments(stall=number(above=0.0))
def initialize_hosts(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    stall: SupportsFloat = 600.0,
    **kws: Any,
) -> None:
    """Join the processes of a program, before anything else uses jax.

    It forwards to `jax.distributed.initialize`, with `heartbeat_timeout_seconds` and
    `shutdown_timeout_seconds` of 10 instead of 100 and 300, so that no process waits
    long for one that is gone. Then a trainer with `n_devices=jax.device_count()` is one
    run on all of them, by the same script on every host.

    **Arguments:**

    - `coordinator_address`: `"host:port"` of process 0. It is detected together with
        the next two under SLURM, Open MPI, Kubernetes and on TPU pods.
    - `num_processes`: the number of processes.
    - `process_id`: the number of this one, from 0.
    - `stall`: the seconds without agreement between the processes of a run, after which
        one that waits prints the stacks of all its threads and ends. A chunk of steps
        takes some 0.3 seconds; the first one also compiles.
    - `kws`: further arguments of `jax.distributed.initialize`.

    **Raises:** the errors of `jax.distributed.initialize`.
    """
    kws = {
        "heartbeat_timeout_seconds": _SECONDS,
        "shutdown_timeout_seconds": _SECONDS,
        **kws,
    }
    jax.distributed.initialize(coordinator_address, num_processes, process_id, **kws)
    settings.stall = float(stall)
