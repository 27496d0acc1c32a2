"""Writing the training store, shard by shard."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_pipeline.channels import Channels
from data_pipeline.files.atomic import sweep
from data_pipeline.grids.grid import Grid
from data_pipeline.store.format import FULL, STORE_FORMAT, checksum
from data_pipeline.store.integrity import content_fingerprint, seal
from data_pipeline.store.packing import Packing, StorageConfig
from data_pipeline.store.states import ReadWindow, States, open_states, shard_path


@dataclass(frozen=True)
class StoreWriter:
    """Folder and axes of a store, and how it is written: ``shard_length`` times in a file.

    ``filled`` are the channels whose missing values are filled.
    """

    path: Path
    channels: Channels
    grid: Grid
    times: np.ndarray
    packing: Packing
    storage: StorageConfig
    shard_length: int
    filled: Channels

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, channel, latitude, longitude)."""
        return len(self.times), len(self.channels), *self.grid.shape

    def create(self) -> None:
        """Make the empty store."""
        compressor = ZstdCodec(level=3, checksum=True)
        group = zarr.open_group(self.path, mode="a", zarr_format=3)
        group.create_array(
            "fields",
            shape=self.shape,
            chunks=(1, *self.shape[1:]),
            shards=(self.shard_length, *self.shape[1:]),
            dtype=self.packing.stored,
            compressors=compressor if self.storage.compression == "zstd" else None,
            dimension_names=("time", "channel", *self.grid.dims),
            overwrite=True,
        )
        if len(self.filled):
            shape = len(self.filled), *self.grid.shape
            group.create_array(
                "filled",
                shape=(len(self.times), *shape),
                chunks=(1, *shape),
                shards=(self.shard_length, *shape),
                dtype="uint8",
                compressors=compressor,
                dimension_names=("time", "filled_channel", *self.grid.dims),
                overwrite=True,
            )

    def write(self, start: int, stored: np.ndarray) -> list[str]:
        """Write complete shards of stored values from index ``start``, and give their checksums."""
        fields = self._array("fields", "r+")
        # The store does not record this setting; without chunks of zeros it could not be mapped.
        fields = fields.with_config({"write_empty_chunks": True})
        fields[start : start + len(stored)] = stored
        checksums = []
        for first in range(0, len(stored), self.shard_length):
            _flush(shard_path(self.path, (start + first) // self.shard_length))
            checksums.append(checksum(stored[first : first + self.shard_length]))
        return checksums

    def write_filled(self, start: int, shares: np.ndarray) -> None:
        """Write the filled share of each cell (time, filled channel, ...) from index ``start``."""
        if not len(self.filled):
            return
        self._array("filled", "r+")[start : start + len(shares)] = shares
        for first in range(start, start + len(shares), self.shard_length):
            file = shard_path(self.path, first // self.shard_length, "filled")
            if file.exists():  # a shard of zeros has none
                _flush(file)

    def summarize_filled(self, selected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean filled share (filled channel, latitude, longitude), 0..1, at some times (time,).

        Also the checksum of each shard (shard,), uint64.
        """
        filled, total = self._array("filled", "r"), np.zeros((len(self.filled), *self.grid.shape))
        checksums = []
        for start in range(0, len(selected), self.shard_length):
            index = slice(start, start + self.shard_length)
            shares = np.asarray(filled[index])
            total += shares[selected[index]].sum(axis=0, dtype=np.int64)
            checksums.append(int(checksum(shares), 16))
        mean = (total / (FULL * selected.sum())).astype(np.float32)
        return mean, np.array(checksums, np.uint64)

    def states(self, channels: slice = slice(None)) -> States:
        """The states that have been written."""
        fields = self._array("fields", "r")
        packing = self.packing.for_channels(channels)
        return open_states(self.path, fields, ReadWindow(channels), packing)

    def create_climatology(self, hours: np.ndarray, num_coefficients: int) -> None:
        """Make the empty array of the climatology, a chunk for each channel."""
        shape = (len(hours), num_coefficients, *self.shape[1:])
        zarr.open_group(self.path, mode="r+").create_array(
            "climatology",
            shape=shape,
            chunks=(*shape[:2], 1, *shape[3:]),
            dtype="float32",
            dimension_names=("hour", "harmonic", "channel", *self.grid.dims),
            overwrite=True,
        )

    def write_climatology(self, channel: int, coefficients: np.ndarray) -> None:
        """Write (hour, harmonic, latitude, longitude) of one channel."""
        self._array("climatology", "r+")[:, :, channel] = coefficients.astype(np.float32)

    def _array(self, name: str, mode: Literal["r", "r+"]) -> zarr.Array:
        array = zarr.open_group(self.path, mode=mode)[name]
        assert isinstance(array, zarr.Array)
        return array

    def finish(self, contents: Mapping[str, np.ndarray], attrs: dict[str, Any]) -> None:
        """Write the other arrays, attributes, fingerprint, consolidated metadata and checksums.

        ``contents`` are static, checksum, rounding, hour and the statistics, and where there are
        such, filled_share, filled_checksum and empty.
        """
        sweep(self.path)  # what a kill has left of an earlier seal
        group = zarr.open_group(self.path, mode="r+")
        record = {"channels": self.channels.to_json(), "dtype": self.packing.dtype}
        record |= self.grid.attrs
        if len(self.filled):
            record["filled_channels"] = self.filled.labels
        seconds = self.times.astype("datetime64[s]").astype("int64")
        since = {"units": "seconds since 1970-01-01", "calendar": "standard"}
        _write_array(group, "time", seconds, ("time",), since)
        for axis in self.grid.dims:
            attributes = dict(self.grid.coordinate_attrs[axis])
            _write_array(group, axis, self.grid.coords[axis], (axis,), attributes)
        space = self.grid.dims
        dims = {"checksum": ("shard",), "hour": ("hour",), "static": ("static", *space)}
        dims |= {"filled_share": ("filled_channel", *space), "filled_checksum": ("shard",)}
        dims |= {"empty": ("time",)}
        contents = {"offset": self.packing.offset, "scale": self.packing.scale, **contents}
        for name, values in contents.items():
            attributes = {"units": "h"} if name == "hour" else {}
            _write_array(group, name, values, dims.get(name, ("channel",)), attributes)
        _write_array(group, "channel", np.array(self.channels.labels), ("channel",), {})
        axes = {"time": seconds, **{axis: self.grid.coords[axis] for axis in space}}
        fingerprint = content_fingerprint(record, {**axes, **contents})
        record |= {"format": STORE_FORMAT, "fingerprint": fingerprint}
        group.attrs.put({**attrs, **record})
        with warnings.catch_warnings():  # zarr 3 has no specification of it yet, readers know it
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            zarr.consolidate_metadata(group.store)
        seal(self.path)


def _flush(path: Path) -> None:
    """Have the bytes of a file on the disk before the ledger says so."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_array(
    group: zarr.Group,
    name: str,
    values: np.ndarray,
    dims: tuple[str, ...],
    attributes: dict[str, Any],
) -> None:
    text = values.dtype.kind == "U"
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=str if text else values.dtype,
        dimension_names=dims,
        attributes=attributes,
        overwrite=True,
    )
    if values.size:
        array[...] = values.astype(object) if text else values
