"""Encoding of values in a training store: float32 unchanged, or 16 bits for half the bytes.

float16, bfloat16 and int16 hold ``(value - offset) / scale`` by channel. For the two floats offset
and scale are mean and standard deviation, so that the digits go where the values vary; bfloat16 is
stored in the bits of int16, which every reader knows. For int16 the scale spreads twelve standard
deviations, or more where a sample has larger values, over its integers. Values that do not fit are
an error, never clipped.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt, Le

from data_pipeline.bounds import check_bounds
from data_pipeline.errors import InputError

StoredType = Literal["float32", "float16", "bfloat16", "int16"]
_LARGEST = {"float16": 65504.0, "bfloat16": 3e38, "int16": 32767.0}
_INT16_STDS, _MARGIN = 12.0, 1.5


@dataclass(frozen=True, kw_only=True)
class StorageConfig:
    """Encoding and files of a training store.

    Args:
        dtype: float32 keeps every bit. float16 (rounding of 0.02 % of a channel's standard
            deviation), int16 (0.01 %, larger where a channel has rare extremes) and bfloat16
            (0.2 %) take half the space and half the time to read.
        compression: ``zstd`` for slow or remote disks; ``none`` can be mapped into memory.
        shard_mib: Size of a file of the store, about.
    """

    dtype: StoredType = "float32"
    compression: Literal["none", "zstd"] = "none"
    shard_mib: Annotated[float, Gt(0), Le(1e6)] = 64.0

    def __post_init__(self) -> None:
        check_bounds(self, "data.storage")


@dataclass(frozen=True)
class Packing:
    """Values to stored values and back.

    Args:
        dtype: Type of stored values.
        offset: By channel (channel,), float64.
        scale: By channel (channel,), float64, positive.
    """

    dtype: StoredType
    offset: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, dtype: StoredType, sample: np.ndarray) -> "Packing":
        """Offset and scale for values like a sample (time, channel, latitude, longitude)."""
        values = sample.astype(np.float64)
        if dtype == "float32":
            return cls(dtype, np.zeros(values.shape[1]), np.ones(values.shape[1]))
        axes = (0, 2, 3)
        mean, std = values.mean(axes), values.std(axes)
        scale = np.where(std > 0, std, 1.0)
        if dtype == "int16":
            farthest = np.abs(values - mean[:, None, None]).max(axes)
            scale = np.maximum(_INT16_STDS * scale, _MARGIN * farthest) / _LARGEST[dtype]
        # The device unpacks in float32: packing has to use the same numbers.
        return cls(dtype, *(x.astype(np.float32).astype(np.float64) for x in (mean, scale)))

    @property
    def stored(self) -> np.dtype:
        """The numpy type of stored values."""
        return np.dtype({"float32": "<f4", "float16": "<f2"}.get(self.dtype, "<i2"))

    def pack(self, values: np.ndarray, labels: list[str]) -> np.ndarray:
        """Stored values of float32 ``values`` (time, channel, latitude, longitude).

        Raises:
            InputError: If values are beyond the range of the type (all ``labels`` are named).
        """
        if self.dtype == "float32":
            return np.ascontiguousarray(values, np.float32)
        offset, scale = (x[:, None, None].astype(np.float32) for x in (self.offset, self.scale))
        scaled = (values - offset) / scale
        outside = np.abs(scaled).max(axis=(0, 2, 3)) > _LARGEST[self.dtype]
        if outside.any():
            names = [label for label, out in zip(labels, outside, strict=True) if out]
            raise InputError(
                f"values of {names} are too far from the others for data.storage.dtype="
                f"{self.dtype}; take float32, float16, or the logarithm of the variable",
                code="out-of-range",
            )
        if self.dtype == "int16":
            return np.rint(scaled).astype("<i2")
        if self.dtype == "float16":
            return scaled.astype("<f2")
        # bfloat16 is the upper half of the bits, rounded to nearest, ties to even.
        bits = np.ascontiguousarray(scaled, np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return (rounded >> np.uint32(16)).astype(np.uint16).view("<i2")

    def for_channels(self, channels: slice) -> "Packing":
        """The packing of some of the channels."""
        return Packing(self.dtype, self.offset[channels], self.scale[channels])

    def unpack(self, stored: np.ndarray) -> np.ndarray:
        """float32 values of stored ones (..., channel, latitude, longitude)."""
        if self.dtype == "float32":
            return stored
        offset, scale = (x[:, None, None].astype(np.float32) for x in (self.offset, self.scale))
        if self.dtype == "bfloat16":
            bits = np.ascontiguousarray(stored).view(np.uint16).astype(np.uint32) << np.uint32(16)
            return bits.view(np.float32) * scale + offset
        return stored.astype(np.float32) * scale + offset
