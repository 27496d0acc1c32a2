"""The training store: prepared fields as a zarr store that any reader opens, laid out to be mapped.

    fields       (time, channel, latitude, longitude) float32, uncompressed, one time step a chunk,
                 many steps a shard file
    static       (static, latitude, longitude) float32
    checksum     (block) uint64, of the fields in each shard file
    mean, std, diff_std    (channel) float64, of the training period
    climatology  (hour, harmonic, channel, latitude, longitude) float32, of the training period
    time, latitude, longitude, hour

Attributes hold the channels with their units, the configuration, a fingerprint and the versions.
The reader maps the shard files into memory, because decoding by zarr costs many times the copy.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import dask.array
import numpy as np
import xarray as xr
import zarr

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid
from data_pipeline.ledger import Ledger
from data_pipeline.progress import track
from data_pipeline.statistics import Statistics

FORMAT = 2
_SHARD_BYTES = 64 * 2**20
_DASK_BLOCK_BYTES = 16 * 2**20
_SPACE = ("latitude", "longitude")


class StoreWriter:
    """Writes a store, or goes on with one that was interrupted.

    Args:
        path: Folder to make.
        channels: Meaning of the channel axis.
        grid: Grid of every field.
        times: datetime64 of every field.
        ledger: Blocks that are written already.
    """

    def __init__(
        self, path: Path, channels: Channels, grid: LatLonGrid, times: np.ndarray, ledger: Ledger
    ) -> None:
        self.path, self.times = path, times
        self._channels, self._grid, self._ledger = channels, grid, ledger
        self._group = zarr.open_group(path, mode="a", zarr_format=3)
        shape = (len(times), len(channels), *grid.shape)
        self.block_length = min(len(times), max(1, _SHARD_BYTES // (4 * int(np.prod(shape[1:])))))
        self._fields = self._open_fields(shape) if ledger.checksums else self._new_fields(shape)

    def _open_fields(self, shape: tuple[int, ...]) -> zarr.Array:
        fields = self._group["fields"]
        assert isinstance(fields, zarr.Array)
        assert fields.shape == shape
        return fields

    def _new_fields(self, shape: tuple[int, ...]) -> zarr.Array:
        return self._group.create_array(
            "fields",
            shape=shape,
            chunks=(1, *shape[1:]),
            shards=(self.block_length, *shape[1:]),
            dtype="float32",
            compressors=None,
            dimension_names=("time", "channel", *_SPACE),
            config={"write_empty_chunks": True},
            overwrite=True,
        )

    @property
    def missing(self) -> list[int]:
        """First indices of the blocks that are still to be written."""
        starts = range(0, len(self.times), self.block_length)
        return [start for start in starts if start not in self._ledger.checksums]

    def write_block(self, start: int, values: np.ndarray) -> None:
        """Write ``block_length`` states (fewer at the end) from index ``start``."""
        values = np.ascontiguousarray(values, np.float32)
        self._fields[start : start + len(values)] = values
        with shard_path(self.path, start // self.block_length).open("rb") as file:
            os.fsync(file.fileno())
        self._ledger.record(start, checksum(values))

    def finish(
        self,
        static: np.ndarray,
        statistics: Statistics,
        hours: np.ndarray,
        coefficients: np.ndarray,
        attrs: dict[str, Any],
    ) -> None:
        """Write coordinates, static fields, moments, checksums, attributes and fingerprint."""
        checksums = [int(self._ledger.checksums[s], 16) for s in sorted(self._ledger.checksums)]
        digest = hashlib.blake2b(json.dumps(self._channels.to_json()).encode(), digest_size=16)
        arrays = [
            _Small("checksum", np.array(checksums, np.uint64), ("block",), {}),
            *_coordinates(self.times, self._grid),
            _Small("static", static.astype(np.float32), ("static", *_SPACE), {}),
            *(_Small(name, v, ("channel",), {}) for name, v in statistics._asdict().items()),
            _Small("hour", hours, ("hour",), {"units": "h"}),
            _Small(
                "climatology",
                coefficients.astype(np.float32),
                ("hour", "harmonic", "channel", *_SPACE),
                {},
            ),
        ]
        for array in arrays:
            self._write_small(array)
            digest.update(array.values.tobytes())
        self._group.attrs.put({**attrs, "format": FORMAT, "fingerprint": digest.hexdigest()})

    def _write_small(self, small: "_Small") -> None:
        array = self._group.create_array(
            small.name,
            shape=small.values.shape,
            dtype=small.values.dtype,
            dimension_names=small.dims,
            attributes=small.attributes,
            overwrite=True,
        )
        if small.values.size:
            array[...] = small.values

    def states(self) -> "States":
        """What has been written, mapped."""
        return States(self.path, self._fields.shape, self.block_length)


class _Small(NamedTuple):
    """An array beside the fields."""

    name: str
    values: np.ndarray
    dims: tuple[str, ...]
    attributes: dict[str, Any]


def _coordinates(times: np.ndarray, grid: LatLonGrid) -> list[_Small]:
    seconds = times.astype("datetime64[s]").astype("int64")
    since = {"units": "seconds since 1970-01-01", "calendar": "standard"}
    units = {"latitude": "degrees_north", "longitude": "degrees_east"}
    return [
        _Small("time", seconds, ("time",), since),
        *(
            _Small(name, grid.coords[name], (name,), {"units": u, "standard_name": name})
            for name, u in units.items()
        ),
    ]


def shard_path(path: Path, index: int) -> Path:
    """File of a store's block."""
    return path / "fields" / f"c/{index}/0/0/0"


def checksum(values: np.ndarray) -> str:
    """Of a block of float32 fields, 16 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=8).hexdigest()


class States:
    """Fields of a store, mapped into memory: indexing copies, nothing is cached.

    Args:
        path: Folder of the store.
        shape: (time, channel, latitude, longitude).
        shard_length: Time steps in a shard file.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, path: Path, shape: tuple[int, ...], shard_length: int) -> None:
        self.shape, self.shard_length = shape, shard_length
        count = -(-shape[0] // shard_length)
        self._shards = [self._map(shard_path(path, index)) for index in range(count)]

    def _map(self, path: Path) -> np.ndarray:
        """A view of a shard file: its chunks lie in order, before the index."""
        size = 4 * int(np.prod(self.shape[1:]))
        mapped = np.memmap(path, np.uint8, "r")
        index_size = 16 * self.shard_length
        index = mapped[len(mapped) - 4 - index_size : len(mapped) - 4].view("<u8").reshape(-1, 2)
        written = index[index[:, 0] != np.iinfo(np.uint64).max]
        expected = np.arange(len(written), dtype=np.uint64) * np.uint64(size)
        if not (np.array_equal(written[:, 0], expected) and (written[:, 1] == size).all()):
            raise InputError(
                f"{path} does not hold uncompressed time steps in order; delete the store and "
                "prepare it again"
            )
        return mapped[: len(written) * size].view("<f4").reshape(-1, *self.shape[1:])

    def read_into(self, buffer: np.ndarray, indices: np.ndarray) -> None:
        """Copy the states at ``indices`` into ``buffer`` (index, channel, latitude, longitude)."""
        for target, index in zip(buffer, indices.tolist(), strict=True):
            np.copyto(target, self._shards[index // self.shard_length][index % self.shard_length])

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        """Values of a tuple of slices or integers, one for each axis."""
        indices = np.arange(self.shape[0])[key[0]]
        buffer = np.empty((indices.size, *self.shape[1:]), np.float32)
        self.read_into(buffer, indices.reshape(-1))
        return buffer.reshape(*indices.shape, *self.shape[1:])[(..., *key[1:])]

    def blocks(self, chosen: np.ndarray) -> Iterator[np.ndarray]:
        """The states where ``chosen`` (time,) is true, in order, by blocks of one shard."""
        for start in range(0, self.shape[0], self.shard_length):
            indices = start + np.flatnonzero(chosen[start : start + self.shard_length])
            if len(indices):
                buffer = np.empty((len(indices), *self.shape[1:]), np.float32)
                self.read_into(buffer, indices)
                yield buffer


class PreparedStore:
    """A store ready for training.

    Args:
        path: Folder that ``prepare`` has written.

    Raises:
        InputError: If there is no store of this version at ``path``.
    """

    def __init__(self, path: Path) -> None:
        if not (path / "zarr.json").exists():
            raise InputError(
                f"no prepared data at {path.resolve()}; run `fourcastnet-afno prepare`"
            )
        self.path = path
        self._group = zarr.open_group(path, mode="r")
        self.attrs: dict[str, Any] = dict(self._group.attrs)
        if self.attrs.get("format") != FORMAT:
            raise InputError(
                f"{path} is no store of this version: its format is {self.attrs.get('format')!r}, "
                f"expected {FORMAT}; give another folder, or delete this one to prepare it again"
            )
        self.channels = Channels.from_json(self.attrs["channels"])
        self.static_channels = Channels.from_json(self.attrs["static_channels"])
        self.fingerprint: str = self.attrs["fingerprint"]
        self.times = self._read("time").astype("datetime64[s]").astype("datetime64[ns]")
        latitude, longitude = (tuple(self._read(name).tolist()) for name in _SPACE)
        self.grid = LatLonGrid(latitude=latitude, longitude=longitude)

    @property
    def timestep(self) -> np.timedelta64:
        """Time from a state to the next."""
        return np.timedelta64(self.attrs["timestep_hours"], "h").astype("timedelta64[ns]")

    @cached_property
    def statistics(self) -> Statistics:
        """Statistics of the training period by channel."""
        return Statistics(*(self._read(name) for name in Statistics._fields))

    @cached_property
    def states(self) -> States:
        """The fields, mapped."""
        array = self._group["fields"]
        assert isinstance(array, zarr.Array)
        assert array.shards is not None
        return States(self.path, array.shape, array.shards[0])

    def verify(self) -> None:
        """Compare every shard file with its checksum.

        Raises:
            InputError: If any differs (all are named, with their times).
        """
        length, damaged = self.states.shard_length, []
        for index, expected in enumerate(track(self._read("checksum").tolist(), "Verifying")):
            start, times = index * length, self.times[index * length : (index + 1) * length]
            values = self.states[
                (slice(start, start + length), slice(None), slice(None), slice(None))
            ]
            if checksum(values) != f"{expected:016x}":
                damaged.append(f"{shard_path(self.path, index)} ({times[0]} to {times[-1]})")
        if damaged:
            raise InputError(
                f"{len(damaged)} files of {self.path.resolve()} have changed since they were "
                f"written: {', '.join(damaged)}; delete the store and prepare it again"
            )

    def normalized_static(self) -> np.ndarray:
        """Static fields with area-weighted mean 0 and variance 1, float32 (static, lat, lon)."""
        fields = self._read("static").astype(np.float64)
        weights = self.grid.area_weights()
        centered = fields - (weights * fields).mean(axis=(1, 2), keepdims=True)
        std = np.sqrt((weights * centered**2).mean(axis=(1, 2), keepdims=True))
        return (centered / np.where(std > 0, std, 1)).astype(np.float32)

    def dataset(self) -> xr.Dataset:
        """The fields as a lazy canonical dataset."""
        step_bytes = 4 * int(np.prod(self.states.shape[1:]))
        length = max(1, _DASK_BLOCK_BYTES // step_bytes)
        fields = dask.array.from_array(
            self.states,
            chunks=(length, *self.states.shape[1:]),  # type: ignore[arg-type]
            meta=np.empty((0, 0, 0, 0), np.float32),
        )
        return self.channels.unstack(fields, {"time": self.times, **self.grid.coords})

    def climatology(self) -> xr.Dataset:
        """Coefficients for ``data_pipeline.climatology.climatology_at``."""
        values = self._read("climatology")
        axes = {"hour": self._read("hour"), "harmonic": np.arange(values.shape[1])}
        return self.channels.unstack(values, {**axes, **self.grid.coords})

    def _read(self, name: str) -> np.ndarray:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return np.asarray(array[...])
