"""Rules that the part ``data`` of an experiment gives for single variables."""

from typing import Literal

from data_pipeline.bounds import Number

AccumulateRule = Literal["sum", "mean", "last"]
FillRule = Number | Literal["climatology"]
