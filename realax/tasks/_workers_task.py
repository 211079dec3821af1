"""Tasks on the host whose jobs are given to workers."""

import abc
import functools
from typing import Any, Self, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Key

from .._check import no_type_check
from .._types import EXECUTION, Tree
from .._workers import AbstractWork, Crew, Jobs, Setup
from .._workers._engine import AbstractEngine
from .._workers._here import Here
from .._workers._jobs import split
from ._gathered import gathered
from ._host_options import Backend, Errors, HostOptions, check_backend
from ._observing import Evaluation
from ._on_host import AbstractHostTask, check_concrete


class Workers:
    """The workers of a task, which live as long as it does."""

    def __init__(self) -> None:
        self.crew: Crew | None = None
        self.work: AbstractWork | None = None
        self._setup: Setup | None = None
        self._data: Any = None  # as it was given, of the last setup

    @no_type_check
    def setup(
        self, work: AbstractWork, leaves: Any, structure: Any, data: Any
    ) -> Setup:
        """Return what all jobs share: that of the last generation, if it is the same.

        **Arguments:**

        - `work`: what is done.
        - `leaves`, `structure`: those of the parameters.
        - `data`: the data of the run.
        """
        last = self._setup
        if (
            last is None
            or not _unchanged(self._data, data)
            or last.structure != structure
            or last.leaves != leaves
        ):
            last = Setup(work, leaves, structure, _as_numpy(data))
            self._setup, self._data = last, data
        return last


class AbstractWorkersTask[P](AbstractHostTask[P]):
    """A task on the host, each evaluation of which is a job for a worker.

    A job is a function of its parameters and its key. Results therefore depend neither
    on the number of workers nor on their kind, and nothing of them is saved.

    Workers start with the first evaluation, are used again by later ones, and end with
    the task, with `close`, or with this process, however it ends.
    """

    workers: int = eqx.field(static=True, metadata=EXECUTION)
    backend: Backend = eqx.field(static=True, metadata=EXECUTION)
    timeout: float | None = eqx.field(static=True, metadata=EXECUTION)
    retries: int = eqx.field(static=True, metadata=EXECUTION)
    errors: Errors = eqx.field(static=True)
    handle: Workers = eqx.field(static=True, repr=False, metadata=EXECUTION)

    def __init__(self, options: HostOptions):
        """Set the fields of all subclasses, from arguments that were checked before.

        **Raises:** `ValueError` for a timeout without workers; `ImportError` that names
        the extra that a backend needs.
        """
        self.workers = cast(int, options.get("workers", 0))
        self.backend = options.get("backend", "processes")
        timeout = options.get("timeout")
        self.timeout = None if timeout is None else float(timeout)
        self.retries = cast(int, options.get("retries", 2))
        self.errors = options.get("errors", "raise")
        self.handle = Workers()
        if self.workers > 0:
            check_backend(self.backend, type(self).__name__)
        elif self.timeout is not None:
            raise ValueError(
                f"`timeout` of `{type(self).__name__}` needs workers, because nothing "
                "can end a job in this process, but got `workers=0`. Pass `workers=1`, "
                "or leave `timeout` out."
            )

    @abc.abstractmethod
    def work(self) -> AbstractWork:
        """Return what is done for each job."""

    @no_type_check
    def evaluate_and_observe(
        self, population: Any, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> Evaluation:
        """Evaluate a population on the host, and sum up the observations.

        **Arguments:**

        - `population`, `keys`, `data`: as for `evaluate`.

        **Raises:** the exception of a job; `RuntimeError` if all jobs fail.
        """
        check_concrete(type(self).__name__, population, keys)
        arrays, leaves, structure = split(population)
        handle = self.handle
        if handle.crew is None or handle.work is None:
            handle.work = self.work()
            # Without a reference to the task, with which the workers end.
            build = functools.partial(_engine_of, self.workers, self.backend)
            handle.crew = Crew(build, self.timeout, self.retries, self.errors)
        setup = handle.setup(handle.work, leaves, structure, data)
        words = np.asarray(jr.key_data(keys))
        if keys.size == 0:
            return Evaluation(jnp.zeros(keys.shape))
        jobs = Jobs(arrays, words.reshape(keys.size, -1), keys.shape[1])
        outcomes = handle.crew.evaluate(setup, jobs)
        return gathered(outcomes, keys.shape, type(self).__name__)

    def close(self) -> None:
        """End the workers. They start again when they are needed."""
        if self.handle.crew is not None:
            self.handle.crew.close()

    @no_type_check  # which does not know `Self`
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _as_numpy(data: Any) -> Any:
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, data
    )


@no_type_check
def _unchanged(before: Any, data: Any) -> bool:
    """Return whether data are known to be those of before.

    Arrays that can be written to, and unknown objects, may have changed.
    """
    if before is None and data is None:
        return True
    old, structure = jax.tree.flatten(before)
    new, same = jax.tree.flatten(data)
    return structure == same and all(
        a is b and _is_constant(a) for a, b in zip(old, new, strict=True)
    )


@no_type_check
def _is_constant(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray):
        return not leaf.flags.writeable
    return isinstance(leaf, jax.Array | np.generic | int | float | str | bytes)


def constant(data: Any) -> Any:
    """Return data with copies of numpy arrays that cannot be written to.

    They are then sent to workers only once.
    """

    def copy(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        leaf = leaf.copy()
        leaf.flags.writeable = False
        return leaf

    return jax.tree.map(copy, data)


def _engine_of(workers: int, backend: Backend) -> AbstractEngine:
    if workers == 0:
        return Here()
    match backend:
        case "processes":
            from .._workers._processes import Processes

            return Processes(workers)
        case "threads":
            from .._workers._threads import Threads

            return Threads(workers)
        case "ray":
            from .._workers._ray import Ray

            return Ray(workers)
