"""Pictures, with matplotlib: `pip install "realax[plots]"`."""

from ._curves import curves as curves
