"""The fields of a training store, read by index into existing memory.

Uncompressed shard files on a local disk are mapped: their chunks are stored in order, and decoding
by zarr costs many times the copy. Compressed and remote stores are read by zarr, several times at
once, remote ones through a cache of bounded size.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.abc.store import SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from data_pipeline.errors import InputError, TransferError
from data_pipeline.sources.retry import with_retries
from data_pipeline.store.indexing import Selection
from data_pipeline.store.packing import Packing

_MAPPED_FILES = 8192  # the system allows 65530 maps a process
_ZARR_THREADS = 8
_LEAST_INDEX = 20  # bytes at the end of each shard
_EVERYTHING = slice(None)
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


class ReadWindow(NamedTuple):
    """A region of each state; columns may wrap around the edge, in two runs."""

    channels: slice = _EVERYTHING
    rows: slice = _EVERYTHING
    columns: tuple[slice, ...] = (_EVERYTHING,)

    def shape(self, full: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the region of an array (..., channel, latitude, longitude)."""
        *leading, channels, rows, columns = full
        width = sum(len(range(columns)[run]) for run in self.columns)
        return *leading, len(range(channels)[self.channels]), len(range(rows)[self.rows]), width

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """Copy the region of ``source`` (time, channel, latitude, longitude) into ``target``."""
        start = 0
        for run in self.columns:
            values = source[:, self.channels, self.rows, run]
            np.copyto(target[..., start : start + values.shape[-1]], values)
            start += values.shape[-1]


class Reader(ABC):
    """Stored values by index of time.

    Args:
        full: (time, channel, latitude, longitude) of all that is stored.
        region: What is read of each state.
    """

    def __init__(self, full: tuple[int, ...], region: ReadWindow) -> None:
        self._full, self._region = full, region
        self._times: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, channel, latitude, longitude) of the region that is read."""
        num_times, *shape = self._region.shape(self._full)
        return num_times if self._times is None else len(self._times), *shape

    def select(self, channels: slice) -> "Reader":
        """A reader of some of the channels."""
        other, start = copy(self), range(self._full[1])[self._region.channels].start
        channels = slice(start + channels.start, start + channels.stop)
        other._region = self._region._replace(channels=channels)
        return other

    def select_times(self, times: np.ndarray) -> "Reader":
        """A reader of the states at some indices (time,) alone, which are counted anew."""
        other = copy(self)
        other._times = times if self._times is None else self._times[times]
        return other

    def read_into(self, buffer: np.ndarray, indices: np.ndarray) -> None:
        """Copy the states at ``indices`` into ``buffer`` (index, channel, latitude, longitude)."""
        self._read_stored(buffer, indices if self._times is None else self._times[indices])

    @abstractmethod
    def _read_stored(self, buffer: np.ndarray, indices: np.ndarray) -> None:
        """``read_into`` for indices of all that is stored."""


def shard_path(path: Path, index: int, name: str = "fields") -> Path:
    """File of a shard of one of the store's arrays."""
    return path / name / f"c/{index}/0/0/0"


class MappedReader(Reader):
    """Reads uncompressed shard files, mapped into memory on first use.

    Args:
        path: Folder of the store.
        full: See ``Reader``.
        dtype: Type of the stored values.
        shard_length: Time steps in a shard file.
        region: See ``Reader``; only its bytes are touched.
    """

    def __init__(
        self,
        path: Path,
        full: tuple[int, ...],
        dtype: np.dtype,
        shard_length: int,
        region: ReadWindow,
    ) -> None:
        super().__init__(full, region)
        self._path, self._dtype, self._shard_length = path, dtype, shard_length
        self._written = _last_change(path)
        self._mapped = lru_cache(_MAPPED_FILES)(self.map_shard)

    def _read_stored(self, buffer: np.ndarray, indices: np.ndarray) -> None:
        for start, stop in contiguous_runs(indices, self._shard_length):
            shard, first = divmod(int(indices[start]), self._shard_length)
            self._region.copy(self._mapped(shard)[first : first + stop - start], buffer[start:stop])

    def map_shard(self, shard: int) -> np.ndarray:
        """A view of a shard file; an error if its chunks are not in order before the index."""
        if _last_change(self._path) != self._written:
            raise InputError(
                f"{self._path} was prepared again since it was opened; open it again",
                code="files-differ",
            )
        path, size = shard_path(self._path, shard), self._dtype.itemsize
        size *= int(np.prod(self._full[1:]))
        try:
            mapped = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:  # it is missing or empty
            raise _damaged(f"{path} cannot be read ({error})") from error
        count = min(self._shard_length, self._full[0] - shard * self._shard_length)
        end, index_size = len(mapped) - 4, 16 * self._shard_length
        if end < count * size + index_size:
            raise _damaged(f"{path} has {len(mapped)} bytes and was cut off")
        written = mapped[end - index_size : end].view("<u8").reshape(-1, 2)[:count]
        expected = np.arange(count, dtype=np.uint64) * np.uint64(size)
        if not (np.array_equal(written[:, 0], expected) and (written[:, 1] == size).all()):
            raise _damaged(f"{path} has no {count} uncompressed time steps in order")
        return mapped[: count * size].view(self._dtype).reshape(-1, *self._full[1:])


class ZarrReader(Reader):
    """Reads by zarr, several runs of times at once.

    Args:
        array: (time, channel, latitude, longitude).
        region: What is read of each state; zarr reads whole chunks.
    """

    def __init__(self, array: zarr.Array, region: ReadWindow) -> None:
        super().__init__(array.shape, region)
        self._array = array
        self._require_shard = cache(self._look_for_shard)

    def _read_stored(self, buffer: np.ndarray, indices: np.ndarray) -> None:
        def read(run: tuple[int, int]) -> None:
            start, stop = run
            first = int(indices[start])
            times = slice(first, first + stop - start)
            values = self._read_times(times)
            self._region.copy(np.asarray(values), buffer[start:stop])

        runs = contiguous_runs(indices, self._full[0])
        with ThreadPoolExecutor(max(1, min(_ZARR_THREADS, len(runs))), "zarr") as pool:
            list(pool.map(read, runs))

    def _read_times(self, times: slice) -> Any:  # noqa: ANN401
        """Values of some times; those of a shard that is not there would be zeros."""
        name = f"{self._array.store}, {self._array.path}"
        length = self._array.shards[0] if self._array.shards else self._full[0]
        try:
            for shard in range(times.start // length, -(-times.stop // length)):
                with_retries(lambda shard=shard: self._require_shard(shard), name)
            return with_retries(lambda: self._array[times], name)
        except InputError:
            raise
        except OSError as error:
            message = f"cannot read {name}: {error}; check the disk, or copy the store again"
            raise TransferError(message, code="unreadable-file") from error
        except Exception as error:  # codecs have many errors
            raise _damaged(f"{name} cannot be decoded at the times {times} ({error})") from error

    def _look_for_shard(self, shard: int) -> None:
        name = f"{self._array.path}/c/{shard}/0/0/0"
        index = SuffixByteRequest(_LEAST_INDEX)
        store = self._array.store
        if sync(store.get(name, default_buffer_prototype(), byte_range=index)) is None:
            raise _damaged(f"{self._array.store} lacks {name}")


def contiguous_runs(indices: np.ndarray, length: int) -> list[tuple[int, int]]:
    """Spans of ``indices`` that count up by one within a multiple of ``length``."""
    if not len(indices):
        return []
    same = (np.diff(indices) == 1) & (indices[1:] % length != 0)
    edges = np.flatnonzero(~same) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), len(indices)], strict=True))


class States:
    """Fields of a store as an array: indexing copies and unpacks to float32, nothing is cached."""

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, reader: Reader, packing: Packing) -> None:
        self.reader, self.packing = reader, packing

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, channel, latitude, longitude)."""
        return self.reader.shape

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Values (index, channel, latitude, longitude) at ``indices``."""
        buffer = np.empty((len(indices), *self.shape[1:]), self.packing.stored)
        self.reader.read_into(buffer, indices)
        return self.packing.unpack(buffer)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:  # noqa: ANN401
        """Values by the rules of numpy: integers, slices, lists and masks of an axis.

        Only the requested times and the range of channels that holds the requested ones are read.

        Raises:
            IndexError: If the key is of another kind, too long or out of bounds.
        """
        selection = Selection.from_key(key, self.shape)
        span = selection.channels
        selected = States(self.reader.select(span), self.packing.for_channels(span))
        return selected.read(selection.times)[selection.key]

    def blocks(self, selected: np.ndarray, length: int) -> Iterator[np.ndarray]:
        """The states where ``selected`` (time,) is true, in order, up to ``length`` at a time."""
        indices = np.flatnonzero(selected)
        for start in range(0, len(indices), length):
            yield self.read(indices[start : start + length])


def open_states(
    path: Path | str, fields: zarr.Array, region: ReadWindow, packing: Packing
) -> States:
    """Fields that are mapped where the files are local and uncompressed, read by zarr otherwise.

    ``packing`` is that of the channels of the region.
    """
    reader: Reader = ZarrReader(fields, region)
    stored = np.dtype(packing.stored)
    if isinstance(path, Path) and fields.shards is not None and _is_plain(fields, stored):
        reader = MappedReader(path, fields.shape, stored, fields.shards[0], region)
    return States(reader, packing)


def _is_plain(fields: zarr.Array, stored: np.dtype) -> bool:
    """Whether shards hold nothing but states as they are, one after the other, and an index."""
    metadata = json.loads(json.dumps(fields.metadata.to_dict()["codecs"]))
    sharding = {
        "chunk_shape": [1, *fields.shape[1:]],
        "codecs": [_LITTLE],
        "index_codecs": [_LITTLE, {"name": "crc32c"}],
        "index_location": "end",
    }
    return (
        metadata == [{"name": "sharding_indexed", "configuration": sharding}]
        and fields.dtype == stored
        and fields.shards is not None
        and fields.shards[1:] == fields.shape[1:]
    )


def _damaged(found: str) -> InputError:
    message = f"{found}; delete the store and prepare it again, or copy it again"
    return InputError(message, code="damaged-store")


def _last_change(path: Path) -> tuple[int, int] | None:
    """Time and size of the metadata of a store's fields, which are written once."""
    try:
        status = os.stat(path / "fields" / "zarr.json")
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size
