"""The options that all tasks on the host share."""

import importlib.util
from typing import Any, Literal, SupportsIndex, TypedDict

from .._arguments import Check, number, one_of, optional, whole


type Backend = Literal["processes", "threads", "ray"]
type Errors = Literal["raise", "nan"]

# The packages that a backend needs, and the extra that brings them.
_NEEDED: dict[str, tuple[tuple[str, ...], str]] = {
    "processes": (("pebble", "loky", "cloudpickle"), "host"),
    "threads": ((), "host"),
    "ray": (("ray", "cloudpickle"), "ray"),
}


class HostOptions(TypedDict, total=False):
    """Keywords of every task on the host.

    - `workers`: the number of workers, among which the jobs of a generation are
        divided. 0, the default, evaluates in this process.
    - `backend`: what a worker is. `"processes"`, the default: a process of its own on
        this machine, for any Python. `"threads"`: a thread of this process, for jobs
        that wait for something outside of Python, such as `subprocess.run`. `"ray"`: an
        actor on the cluster that `ray.init` reaches.
    - `timeout`: the longest time of a job in seconds, from its start; `None`, the
        default, for no limit. It needs workers. A process is then ended, with what it
        has started; a thread ends after the job.
    - `retries`: how often a job is done again whose worker died, which called
        `sys.exit`, or which took longer than `timeout`. After that it counts as failed:
        its value is NaN. 2 by default.
    - `errors`: `"raise"`, the default: an exception in a job ends the run, with a note
        of the individual and the seed. `"nan"`: the job counts as failed.
    """

    workers: SupportsIndex
    backend: Backend
    timeout: float | None
    retries: SupportsIndex
    errors: Errors


HOST_CHECKS: dict[str, Check] = {
    "workers": whole(0),
    "backend": one_of("processes", "threads", "ray"),
    "timeout": optional(number(above=0.0)),
    "retries": whole(0),
    "errors": one_of("raise", "nan"),
}


def check_backend(backend: Backend, name: str) -> None:
    """Refuse a backend whose packages are missing.

    **Raises:** `ImportError` that names the extra. The message calls the task `name`.
    """
    packages, extra = _NEEDED[backend]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"the backend {backend!r} of `{name}` needs {package}: "
                f"`pip install 'realax[{extra}]'` brings it. `workers=0` evaluates in "
                "this process and needs nothing."
            )


def check_sendable(phrase: str, value: Any) -> None:
    """Refuse what cannot be sent to another process.

    **Raises:** `TypeError` with the remedy.
    """
    import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception as error:  # pickling runs code of any package
        raise TypeError(
            f"{phrase} must be something that can be sent to a worker, but it cannot be"
            f" pickled: {error}. Make what it holds inside of the function, such as a "
            "file or a connection, or pass `workers=0` or `backend='threads'`."
        ) from error
