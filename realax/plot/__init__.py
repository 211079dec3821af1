"""Pictures, with matplotlib: `pip install "realax[plots]"`."""

from ._archive import archive as archive
from ._curves import curves as curves
