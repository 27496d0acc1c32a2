"""Zarr arrays whose chunks are plain files of numbers: to decode them costs more than scores."""

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import space_dims
from fourcastnet_afno.evaluation.inputs.open import DimensionNames

_MIN_MAPPED_BYTES, _SMALL_BYTES = 2**15, 2**22
_STACK_BYTES = 2**21  # of small chunks that are read one after another into one block


class MappedVariable:
    """A variable whose chunks are plain files of little-endian numbers in a local folder."""

    def __init__(self, array: zarr.Array, layout: DimensionNames, has_members: bool) -> None:
        self._array, self._axes, self._flip = array, layout.axes, layout.flip
        self._folder, self._has_members = f"{layout.path}/{layout.name}", has_members
        self._chunks = tuple(array.chunks[axis] for axis in layout.axes)
        self._sizes = tuple(array.shape[axis] for axis in layout.axes)
        self._shape, self._dtype = array.chunks, array.dtype
        self._chunk_bytes = int(np.prod(array.chunks)) * array.dtype.itemsize
        self._small = self._chunk_bytes <= _SMALL_BYTES

    def blocks(self, inits: np.ndarray, leads: slice, level: int | None) -> Iterator[np.ndarray]:
        """Fields of a forecast, in blocks as of ``FieldSource.read``.

        Indices of initial times increase. The next block is written over the memory of the last.
        """
        length, lead_length = self._chunks[:2]
        positions = range(leads.start // lead_length, (leads.stop - 1) // lead_length + 1)
        rest = [0] * (len(self._axes) - 2)
        if level is not None:
            rest[-3] = level // self._chunks[-3]
        together = max(1, _STACK_BYTES // self._chunk_bytes) if length == 1 else 1
        buffers: list[np.ndarray] = []
        chunks, starts = np.unique(inits // length, return_index=True)
        ends = [*starts[1:], len(inits)]
        for start in range(0, len(chunks), together):
            some = chunks[start : start + together].tolist()
            blocks = []
            for index, position in enumerate(positions):
                if len(buffers) <= index:
                    buffers.append(self._buffer(len(some)))
                stack = self._stack([(chunk, position, *rest) for chunk in some], buffers[index])
                first = position * lead_length
                rows = slice(max(leads.start - first, 0), min(leads.stop - first, lead_length))
                blocks.append(stack[:, :, rows])
            block = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=2)
            block = block if level is None else block[..., level % self._chunks[-3], :, :]
            rows = inits[starts[start] : ends[start]] % length
            block = block[:, 0] if length == 1 else block[0, as_slice(rows)]
            block = block if self._has_members else block[:, :, None]
            yield block[..., ::-1, :] if self._flip else block

    def states(self, order: np.ndarray, result: np.ndarray) -> None:
        """Write states at increasing indices of time, (time, [level], latitude, longitude)."""
        length, lengths, sizes = self._chunks[0], self._chunks[1:-2], self._sizes[1:-2]
        counts = [-(-size // n) for size, n in zip(sizes, lengths, strict=True)]
        buffer = self._buffer(1)
        for chunk in np.unique(order // length).tolist():
            rows = slice(*np.searchsorted(order, (chunk * length, (chunk + 1) * length)))
            for where in np.ndindex(*counts):  # of levels, if any
                block = self._stack([(chunk, *where, 0, 0)], buffer)[0]
                block = block[as_slice(order[rows] - chunk * length)]
                levels = (slice(i * n, (i + 1) * n) for i, n in zip(where, lengths, strict=True))
                target = result[(rows, *levels)]
                block = block[..., ::-1, :] if self._flip else block
                target[...] = block[:, : target.shape[1]]

    def _buffer(self, num_chunks: int) -> np.ndarray:
        """Memory for small chunks; none where they are mapped."""
        return np.empty((num_chunks, *self._shape) if self._small else 0, self._dtype)

    def _stack(self, chunks: list[tuple[int, ...]], buffer: np.ndarray) -> np.ndarray:
        """Chunks with canonical axes, (chunk, ...), small ones in the memory of the buffer."""
        paths = []
        for chunk in chunks:
            stored = [0] * len(chunk)
            for axis, position in zip(self._axes, chunk, strict=True):
                stored[axis] = position
            paths.append(f"{self._folder}/{self._array.metadata.encode_chunk_key(tuple(stored))}")
        if self._small:  # a copy costs less than a map
            for path, memory in zip(paths, buffer, strict=False):
                self._copy(path, memory)
            stack = buffer[: len(chunks)]
        else:
            (path,) = paths
            try:
                stack = np.memmap(path, self._dtype, "r", shape=(1, *self._shape))
            except FileNotFoundError:
                stack = np.full((1, *self._shape), self._array.fill_value, self._dtype)
        return stack.transpose(0, *(axis + 1 for axis in self._axes))

    def _copy(self, path: str, memory: np.ndarray) -> None:
        """Read a chunk; one of nothing but the fill value is not written."""
        try:
            file = os.open(path, os.O_RDONLY)  # cheaper than a file object
        except FileNotFoundError:
            memory[...] = self._array.fill_value
            return
        try:
            count = os.readv(file, [memory.data])
        finally:
            os.close(file)
        if count != memory.nbytes:
            raise InputError(
                f"{path} has {count} bytes, expected {memory.nbytes}; the store is damaged or not "
                "complete: write it again",
                code="unreadable-file",
            )


def level_index(dataset: xr.Dataset, channel: Channel) -> int | None:
    """Where a channel's level is on the axis of levels, if it has one."""
    if channel.level is None:
        return None
    return int(np.flatnonzero(dataset["level"].values == channel.level)[0])


def mapped_variable(
    dataset: xr.Dataset, layouts: Mapping[str, DimensionNames], name: str
) -> MappedVariable | None:
    """A variable of a canonical dataset to be mapped; ``None`` where it must be decoded."""
    if name not in layouts:
        return None
    return open_mapped(layouts[name], tuple(map(str, dataset[name].dims)))


def as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """Evenly spaced indices as a slice, which copies nothing."""
    steps = np.diff(rows)
    if len(rows) == 1:
        return slice(int(rows[0]), int(rows[0]) + 1)
    if len(rows) and steps[0] > 0 and (steps == steps[0]).all():
        return slice(int(rows[0]), int(rows[-1]) + 1, int(steps[0]))
    return rows


@lru_cache(maxsize=256)
def open_mapped(layout: DimensionNames, dims: tuple[str, ...]) -> MappedVariable | None:
    """A variable to be mapped, or ``None`` where its chunks must be decoded."""
    array = zarr.open_array(Path(layout.path) / layout.name, mode="r")
    packed = {"scale_factor", "add_offset"} & set(array.attrs)
    undecoded = not (array.compressors or array.filters or array.shards or packed)
    field_axes = (
        layout.axes[dims.index(d)] for d in ("realization", *space_dims(dims)) if d in dims
    )
    uncut = all(array.chunks[axis] == array.shape[axis] for axis in field_axes)
    little = array.dtype in (np.dtype("<f4"), np.dtype("<f8"))
    chunk_bytes = int(np.prod(array.chunks)) * array.dtype.itemsize
    if not (undecoded and uncut and little and chunk_bytes >= _MIN_MAPPED_BYTES):
        return None
    return MappedVariable(array, layout, "realization" in dims)
