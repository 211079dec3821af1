"""Jobs, the batches in which workers get them, and what comes back."""

import abc
import dataclasses
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .._check import no_type_check


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all jobs of a run share. A worker gets it once.

    - `work`: what is done.
    - `leaves`: the leaves of the parameters that are no arrays; `None` for an array.
    - `structure`: the structure of the parameters.
    - `data`: the data of the run, as numpy arrays.
    """

    work: "AbstractWork"
    leaves: tuple[Any, ...]
    structure: Any
    data: Any

    def __reduce__(self) -> Any:
        # A tree of modules can be pickled, but equinox cannot use a pickled structure.
        skeleton = jax.tree.unflatten(
            self.structure, [_ARRAY if leaf is None else leaf for leaf in self.leaves]
        )
        return _rebuilt, (self.work, skeleton, self.data)

    @no_type_check
    def params(self, arrays: list[np.ndarray], row: int) -> Any:
        """Return the parameters of one individual, with copies of its arrays.

        **Arguments:**

        - `arrays`: the arrays of several individuals, stacked.
        - `row`: the number of the individual.
        """
        found = iter(arrays)
        leaves = [
            np.array(next(found)[row]) if leaf is None else leaf for leaf in self.leaves
        ]
        return jax.tree.unflatten(self.structure, leaves)

    @no_type_check
    def population(self, arrays: list[Any]) -> Any:
        """Return a population, from the stacked arrays of its individuals."""
        found = iter(arrays)
        leaves = [next(found) if leaf is None else leaf for leaf in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)


class _Array:
    """Stands for an array in a tree."""


_ARRAY = _Array()


def _rebuilt(work: "AbstractWork", skeleton: Any, data: Any) -> Setup:
    leaves, structure = jax.tree.flatten(skeleton)
    rest = (None if isinstance(leaf, _Array) else leaf for leaf in leaves)
    return Setup(work, tuple(rest), structure, data)


@dataclasses.dataclass(frozen=True)
@no_type_check
class Batch:
    """Jobs that a worker gets at once.

    - `jobs`: their numbers in the generation.
    - `rows`: the row of each job in `arrays`.
    - `arrays`: the arrays of the individuals, stacked.
    - `keys`: the raw key of each job.
    """

    jobs: tuple[int, ...]
    rows: tuple[int, ...]
    arrays: list[np.ndarray]
    keys: np.ndarray

    @property
    @no_type_check
    def seeds(self) -> list[int]:
        """The seed of each job."""
        return seeds_of(self.keys)


@no_type_check
def seeds_of(keys: np.ndarray) -> list[int]:
    """Return the seed of each raw key: its last 31 bits, which fit every generator."""
    return (keys[:, -1] & np.uint32(0x7FFFFFFF)).tolist()


class Outcome(NamedTuple):
    """What a job gave.

    - `value`: its value, a number.
    - `aux`: a tree of numpy arrays.
    - `moments`: the sums over the observations, if the task asks for them.
    """

    value: float
    aux: Any = None
    moments: Any = None


@dataclasses.dataclass(frozen=True)
class Failure:
    """An exception in a job.

    - `error`: the exception.
    - `text`: its traceback.
    - `fatal`: whether it ends the run even if errors are counted.
    - `left`: whether the job called `sys.exit`, as if its worker had died.
    - `outside`: whether it came from no job, such as one where environments are made.
    """

    error: BaseException
    text: str
    fatal: bool = False
    left: bool = False
    outside: bool = False

    @classmethod
    def of(
        cls, error: BaseException, fatal: bool = False, outside: bool = False
    ) -> "Failure":
        """Return an exception that is being handled, as a failure."""
        left = isinstance(error, SystemExit) and not outside
        return cls(error, traceback.format_exc(), fatal, left, outside)


# Called with the number of a job in its batch before the user's code runs for it, and
# with `BETWEEN` where none is in progress.
type Begin = Callable[[int], None]
BETWEEN = -1


class AbstractPlayer(abc.ABC):
    """Evaluates batches in one worker."""

    @abc.abstractmethod
    def play(self, batch: Batch, begin: Begin) -> list[Outcome | Failure]:
        """Return the result of each job of a batch."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release what it holds, such as environments."""


class AbstractWork(abc.ABC):
    """What is done for each job, as a value that can be sent to workers.

    - `together`: whether the jobs of a batch share steps, so that large batches are
        faster.
    """

    together: bool = False

    @abc.abstractmethod
    def open(self, setup: Setup) -> AbstractPlayer:
        """Return what evaluates batches in one worker."""


@dataclasses.dataclass(frozen=True)
@no_type_check
class Jobs:
    """The jobs of a generation: each individual with each of its keys.

    - `arrays`: the arrays of the individuals, stacked.
    - `keys`: the raw keys, of shape `(pop * reps, words)`.
    - `reps`: the number of jobs of each individual.
    """

    arrays: list[np.ndarray]
    keys: np.ndarray
    reps: int

    @no_type_check
    def __len__(self) -> int:
        return len(self.keys)

    @no_type_check
    def batch(self, jobs: tuple[int, ...]) -> Batch:
        """Return some of the jobs as a batch."""
        if len(jobs) == len(self.keys):  # all, in their order
            rows = tuple(job // self.reps for job in jobs)
            return Batch(jobs, rows, self.arrays, self.keys)
        individuals = sorted({job // self.reps for job in jobs})
        place = {individual: row for row, individual in enumerate(individuals)}
        rows = tuple(place[job // self.reps] for job in jobs)
        arrays = [array[individuals] for array in self.arrays]
        return Batch(jobs, rows, arrays, self.keys[list(jobs)])

    def name(self, job: int) -> str:
        """Return a job's individual, repetition and seed, for messages."""
        seed = self.batch((job,)).seeds[0]
        return (
            f"individual {job // self.reps}, repetition {job % self.reps}, seed {seed}"
        )


@no_type_check
def split(population: Any) -> tuple[list[np.ndarray], tuple[Any, ...], Any]:
    """Return the arrays of a population, its other leaves, and its structure."""
    leaves, structure = jax.tree.flatten(population)
    arrays = [np.asarray(leaf) for leaf in leaves if eqx.is_array(leaf)]
    rest = tuple(None if eqx.is_array(leaf) else leaf for leaf in leaves)
    return arrays, rest, structure
