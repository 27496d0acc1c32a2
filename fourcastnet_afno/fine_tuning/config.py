"""Settings of training that starts from a checkpoint; they import no torch."""

from typing import Literal

StatisticsOrigin = Literal["own", "kept", "folded"]
