"""Axes, chunks and precision of a forecast store.

References:
    Klöwer et al., 2021, Compressing atmospheric data into its real information content,
    https://doi.org/10.1038/s43588-021-00156-2 (rounding of the mantissa).
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.sources.names import parse_label

CHUNK_BYTES = 16 * 2**20
MANTISSA_BITS = 23


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """What is written of a forecast, and how.

    Args:
        chunks: ``init_time``: a chunk holds many lead times of one forecast; ``lead_time``: one
            lead time of all forecasts that run together.
        variables: Variables, or channels as geopotential_500, that are written; all where empty.
        levels: Levels in hPa that are written; all where empty.
        compression: ``zstd``, lossless, or ``none``.
        keep_bits: Bits of the mantissa that are kept, of 23. Fewer compress better; the relative
            error is at most 2^-(keep_bits + 1) and stated in the attributes.
    """

    chunks: Literal["init_time", "lead_time"] = "init_time"
    variables: list[str] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    compression: Literal["zstd", "none"] = "zstd"
    keep_bits: int = MANTISSA_BITS

    def __post_init__(self) -> None:
        if not 1 <= self.keep_bits <= MANTISSA_BITS:
            raise ValueError(f"store.keep_bits must lie in 1..23, got {self.keep_bits}")

    def select(self, channels: Channels) -> list[int]:
        """Indices of the channels that are written.

        Raises:
            InputError: If a variable or level is not there (all are named).
        """
        wanted = [parse_label(label) for label in self.variables] or [
            (c.name, None) for c in channels
        ]
        found = {(c.name, c.level) for c in channels} | {(c.name, None) for c in channels}
        levels = {c.level for c in channels if c.level is not None}
        missing = [f"{name}_{level}" if level else name for name, level in wanted]
        missing = [m for m, pair in zip(missing, wanted, strict=True) if pair not in found]
        missing += [f"level {level}" for level in self.levels if level not in levels]
        if missing:
            raise InputError(
                f"forecast.store asks for {missing}, the forecast has {channels.labels}; correct "
                "forecast.store.variables or forecast.store.levels"
            )
        allowed = {*self.levels, None} if self.levels else {*levels, None}
        return [
            index
            for index, c in enumerate(channels)
            if ((c.name, None) in wanted and c.level in allowed) or (c.name, c.level) in wanted
        ]


@dataclass(frozen=True, kw_only=True)
class ForecastLayout:
    """Axes and chunks of a forecast store.

    Args:
        channels: Channels that are written.
        grid: Grid of every field.
        init_times: datetime64.
        lead_times: timedelta64.
        members: Numbers of the members; empty for a store without ``realization``.
        forecasts_together: Initial times and members that are computed together.
        config: Chunks, compression and rounding.
    """

    channels: Channels
    grid: Grid
    init_times: np.ndarray
    lead_times: np.ndarray
    members: tuple[int, ...]
    forecasts_together: tuple[int, int]
    config: StoreConfig

    @cached_property
    def steps_together(self) -> int:
        """Lead times in a chunk: as many as keep what waits to be written small."""
        if self.config.chunks == "lead_time":
            return 1
        together = min(self.forecasts_together[0], len(self.init_times))
        together *= min(self.forecasts_together[1], max(1, len(self.members)))
        size = 4 * together * len(self.channels) * int(np.prod(self.grid.shape))
        return min(len(self.lead_times), max(1, CHUNK_BYTES // size))

    @property
    def coords(self) -> dict[str, np.ndarray]:
        """Coordinates of a field in the store, without level."""
        members = {"realization": np.array(self.members)} if self.members else {}
        return {
            "time": self.init_times,
            **members,
            "prediction_timedelta": self.lead_times,
            **self.grid.coords,
        }

    @property
    def chunk_sizes(self) -> dict[str, int]:
        """Length of a chunk by dimension; others are whole."""
        by_lead = self.config.chunks == "lead_time"
        inits, members = self.forecasts_together if by_lead else (1, 1)
        return {
            "time": min(inits, len(self.init_times)),
            "realization": min(members, max(1, len(self.members))),
            "prediction_timedelta": self.steps_together,
            "level": 1,
        }

    @property
    def num_values(self) -> int:
        """Values of all fields."""
        leading = len(self.init_times) * max(1, len(self.members)) * len(self.lead_times)
        return leading * len(self.channels) * int(np.prod(self.grid.shape))


def bit_rounded(values: Float[np.ndarray, "*shape"], keep_bits: int) -> Float[np.ndarray, "*shape"]:
    """Float32 values to the nearest with ``keep_bits`` bits of mantissa, ties to even.

    The relative error is at most 2^-(keep_bits + 1). Values that are not finite stay.
    """
    dropped = MANTISSA_BITS - keep_bits
    if not dropped:
        return values
    bits: Int[np.ndarray, "*shape"] = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32((1 << (dropped - 1)) - 1) + ((bits >> np.uint32(dropped)) & np.uint32(1))
    rounded = (bits + half) & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)
