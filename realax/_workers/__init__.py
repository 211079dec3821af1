"""Evaluation of jobs by workers: in this process, others, threads, or a cluster."""

from ._crew import Crew as Crew
from ._jobs import (
    AbstractWork as AbstractWork,
    Batch as Batch,
    Begin as Begin,
    Failure as Failure,
    Jobs as Jobs,
    Outcome as Outcome,
    Play as Play,
    Setup as Setup,
)
