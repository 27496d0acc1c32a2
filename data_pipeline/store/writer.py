"""Writing the training store, shard by shard."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_pipeline.channels import Channels
from data_pipeline.grids.grid import Grid
from data_pipeline.store.format import STORE_FORMAT, checksum
from data_pipeline.store.packing import Packing, StorageConfig
from data_pipeline.store.states import ReadWindow, States, open_states, shard_path


@dataclass(frozen=True)
class StoreWriter:
    """Where a store lies and what its axes mean.

    Args:
        path: Folder of the store.
        channels: Meaning of the channel axis.
        grid: Grid of every field.
        times: datetime64 of every field.
        packing: How values are stored.
        storage: Compression and size of the files.
        shard_length: Time steps in a shard file.
    """

    path: Path
    channels: Channels
    grid: Grid
    times: np.ndarray
    packing: Packing
    storage: StorageConfig
    shard_length: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, channel, latitude, longitude)."""
        return len(self.times), len(self.channels), *self.grid.shape

    def create(self) -> None:
        """Make the empty store."""
        compressor = ZstdCodec(level=3, checksum=True)
        zarr.open_group(self.path, mode="a", zarr_format=3).create_array(
            "fields",
            shape=self.shape,
            chunks=(1, *self.shape[1:]),
            shards=(self.shard_length, *self.shape[1:]),
            dtype=self.packing.stored,
            compressors=compressor if self.storage.compression == "zstd" else None,
            dimension_names=("time", "channel", *self.grid.dims),
            overwrite=True,
        )

    def write(self, start: int, stored: np.ndarray) -> list[str]:
        """Write whole shards of stored values from index ``start``.

        Returns:
            The checksum of each shard.
        """
        fields = zarr.open_group(self.path, mode="r+")["fields"]
        assert isinstance(fields, zarr.Array)
        # The store does not keep this setting; without chunks of zeros it could not be mapped.
        fields = fields.with_config({"write_empty_chunks": True})
        fields[start : start + len(stored)] = stored
        checksums = []
        for first in range(0, len(stored), self.shard_length):
            with shard_path(self.path, (start + first) // self.shard_length).open("rb") as file:
                os.fsync(file.fileno())
            checksums.append(checksum(stored[first : first + self.shard_length]))
        return checksums

    def states(self, channels: slice = slice(None)) -> States:
        """What has been written."""
        fields = zarr.open_group(self.path, mode="r")["fields"]
        assert isinstance(fields, zarr.Array)
        return open_states(self.path, fields, ReadWindow(channels), self.packing.of(channels))

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
        array = zarr.open_group(self.path, mode="r+")["climatology"]
        assert isinstance(array, zarr.Array)
        array[:, :, channel] = coefficients.astype(np.float32)

    def finish(self, contents: Mapping[str, np.ndarray], attrs: dict[str, Any]) -> None:
        """Write the arrays beside the fields, attributes, fingerprint and consolidated metadata.

        Args:
            contents: By name: static, checksum, rounding, hour and the statistics.
            attrs: Further attributes.
        """
        group = zarr.open_group(self.path, mode="r+")
        record = {
            "channels": self.channels.to_json(),
            "dtype": self.packing.dtype,
            **self.grid.attrs,
        }
        digest = hashlib.blake2b(json.dumps(record).encode(), digest_size=16)
        packing = {"offset": self.packing.offset, "scale": self.packing.scale}
        labelled = _labelled({**packing, **contents}, self.grid)
        for array in (*_coordinates(self.times, self.grid), *labelled):
            _write_small(group, array)
            digest.update(array.values.tobytes())
        _write_small(group, _Small("channel", np.array(self.channels.labels), ("channel",), {}))
        group.attrs.put(
            {**attrs, **record, "format": STORE_FORMAT, "fingerprint": digest.hexdigest()}
        )
        with warnings.catch_warnings():  # zarr 3 has no specification of it yet, readers know it
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            zarr.consolidate_metadata(group.store)


class _Small(NamedTuple):
    """An array beside the fields."""

    name: str
    values: np.ndarray
    dims: tuple[str, ...]
    attributes: dict[str, Any]


def _write_small(group: zarr.Group, small: _Small) -> None:
    text = small.values.dtype.kind == "U"
    array = group.create_array(
        small.name,
        shape=small.values.shape,
        dtype=str if text else small.values.dtype,
        dimension_names=small.dims,
        attributes=small.attributes,
        overwrite=True,
    )
    if small.values.size:
        array[...] = small.values.astype(object) if text else small.values


def _labelled(contents: Mapping[str, np.ndarray], grid: Grid) -> list[_Small]:
    dims = {"checksum": ("shard",), "hour": ("hour",), "static": ("static", *grid.dims)}
    attributes = {"hour": {"units": "h"}}
    return [
        _Small(name, values, dims.get(name, ("channel",)), attributes.get(name, {}))
        for name, values in contents.items()
    ]


def _coordinates(times: np.ndarray, grid: Grid) -> list[_Small]:
    seconds = times.astype("datetime64[s]").astype("int64")
    since = {"units": "seconds since 1970-01-01", "calendar": "standard"}
    space = [_Small(a, grid.coords[a], (a,), dict(grid.coordinate_attrs[a])) for a in grid.dims]
    return [_Small("time", seconds, ("time",), since), *space]
