"""Rules that the part ``data`` of an experiment gives for single variables."""

from typing import Literal

AccumulateRule = Literal["sum", "mean", "last"]
FillRule = float | Literal["climatology"]
