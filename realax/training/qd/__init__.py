"""Quality diversity: archives, emitters, and their trainer."""

from ._archive import AbstractArchive as AbstractArchive, GridArchive as GridArchive
from ._cma_emitter import CMAEmitter as CMAEmitter, CMAState as CMAState
from ._cma_mae import CMAMAEEmitter as CMAMAEEmitter, CMAMAEState as CMAMAEState
from ._cvt import CVTArchive as CVTArchive
from ._elites import Elites as Elites, Told as Told
from ._emitter import AbstractEmitter as AbstractEmitter
from ._mega import (
    CMAMEGAEmitter as CMAMEGAEmitter,
    CMAMEGAState as CMAMEGAState,
    OMGMEGAEmitter as OMGMEGAEmitter,
)
from ._qdax import QDaxEmitter as QDaxEmitter
from ._several import MultiEmitter as MultiEmitter
from ._slopes import Slopes as Slopes, SlopesAt as SlopesAt
from ._state import (
    ArchiveOf as ArchiveOf,
    QDMetrics as QDMetrics,
    QDState as QDState,
)
from ._trainer import QDTrainer as QDTrainer
from ._unstructured import UnstructuredArchive as UnstructuredArchive
from ._variation import (
    GaussianEmitter as GaussianEmitter,
    IsoLineEmitter as IsoLineEmitter,
)
