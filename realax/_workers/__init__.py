"""Evaluation of jobs by workers: in this process, others, threads, or a cluster."""

from ._crew import Crew as Crew
from ._jobs import (
    BETWEEN as BETWEEN,
    AbstractPlayer as AbstractPlayer,
    AbstractWork as AbstractWork,
    Batch as Batch,
    Begin as Begin,
    Failure as Failure,
    Jobs as Jobs,
    Outcome as Outcome,
    Setup as Setup,
)
