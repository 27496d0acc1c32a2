"""Zarr arrays whose chunks are plain files of numbers, read without decoding.

Decoding chunk by chunk costs many times the arithmetic of scores.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import zarr

from data_pipeline.errors import InputError
from data_pipeline.grid import space_dims
from fourcastnet_afno.evaluation.forecasts import Layout

_MIN_MAPPED_BYTES, _SMALL_BYTES = 2**15, 2**22


class MappedVariable:
    """A variable whose chunks are plain files of little-endian numbers.

    Args:
        array: Array without compression, filters and shards in a local folder.
        folder: The array's folder.
        axes: Axis of the array for each canonical axis.
        flip: Whether its rows are in the other order.
        has_members: Whether it has a canonical axis of realizations.
    """

    def __init__(
        self,
        array: zarr.Array,
        folder: Path,
        axes: tuple[int, ...],
        flip: bool,
        has_members: bool,
    ) -> None:
        self._array, self._folder, self._axes = array, folder, axes
        self._flip, self._has_members = flip, has_members
        self._chunks = tuple(array.chunks[axis] for axis in axes)
        self._sizes = tuple(array.shape[axis] for axis in axes)
        self._shape, self._dtype = array.chunks, array.dtype
        self._small = int(np.prod(array.chunks)) * array.dtype.itemsize <= _SMALL_BYTES

    def fields(
        self, init: int, leads: slice, level: int | None, buffers: list[np.ndarray]
    ) -> np.ndarray:
        """Fields (lead_time, realization, latitude, longitude) of one initial time of a forecast.

        Args:
            init: Index of the initial time.
            leads: Range of indices of lead times.
            level: Index of the level, if any.
            buffers: Memory for chunks, filled anew by the next call.
        """
        length, parts = self._chunks[1], []
        chunk = [init // self._chunks[0], 0] + [0] * (len(self._axes) - 2)
        if level is not None:
            chunk[-3] = level // self._chunks[-3]
        first = leads.start // length
        for position in range(first, (leads.stop - 1) // length + 1):
            chunk[1], start = position, position * length
            part = slice(max(leads.start - start, 0), min(leads.stop - start, length))
            block = self._block(tuple(chunk), buffers, position - first)
            parts.append(block[init % self._chunks[0], part])
        block = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if level is not None:
            block = block[..., level % self._chunks[-3], :, :]
        if not self._has_members:
            block = block[:, None]
        return block[..., ::-1, :] if self._flip else block

    def states(self, order: np.ndarray) -> np.ndarray:
        """States (time, [level], latitude, longitude) of a series at increasing indices of time."""
        length, lengths, sizes = self._chunks[0], self._chunks[1:-2], self._sizes[1:-2]
        result = np.empty((len(order), *self._sizes[1:]), self._dtype)
        counts = [-(-size // n) for size, n in zip(sizes, lengths, strict=True)]
        buffers: list[np.ndarray] = []
        for chunk in np.unique(order // length).tolist():
            own = slice(*np.searchsorted(order, (chunk * length, (chunk + 1) * length)))
            for where in np.ndindex(*counts):  # of levels, if any
                block = self._block((chunk, *where, 0, 0), buffers, 0)[order[own] - chunk * length]
                levels = (slice(i * n, (i + 1) * n) for i, n in zip(where, lengths, strict=True))
                part = result[(own, *levels)]
                part[...] = block[:, : part.shape[1]]
        return result[..., ::-1, :] if self._flip else result

    def _block(self, chunk: tuple[int, ...], buffers: list[np.ndarray], index: int) -> np.ndarray:
        """A chunk with canonical axes, in the memory of one of the buffers where it is small."""
        stored = [0] * len(chunk)
        for axis, position in zip(self._axes, chunk, strict=True):
            stored[axis] = position
        path = f"{self._folder}/{self._array.metadata.encode_chunk_key(tuple(stored))}"
        try:
            if self._small:  # a copy costs less than a map
                block = self._copy(path, buffers, index)
            else:
                block = np.memmap(path, self._dtype, "r", shape=self._shape)
        except FileNotFoundError:  # a chunk of nothing but the fill value is not written
            block = np.full(self._shape, self._array.fill_value, self._dtype)
        return block.transpose(self._axes)

    def _copy(self, path: str, buffers: list[np.ndarray], index: int) -> np.ndarray:
        if len(buffers) <= index:
            buffers.append(np.empty(self._shape, self._dtype))
        with open(path, "rb", buffering=0) as file:
            count = file.readinto(buffers[index].data.cast("B"))
        if count != buffers[index].nbytes:
            raise InputError(
                f"{path} has {count} bytes, expected {buffers[index].nbytes}; the store is damaged "
                "or not complete: write it again"
            )
        return buffers[index]


@lru_cache(maxsize=256)
def open_mapped(layout: Layout, dims: tuple[str, ...]) -> MappedVariable | None:
    """A variable to be mapped, or ``None`` where its chunks must be decoded."""
    folder, axes = Path(layout.path) / layout.name, layout.axes
    array = zarr.open_array(folder, mode="r")
    packed = {"scale_factor", "add_offset"} & set(array.attrs)
    plain = not (array.compressors or array.filters or array.shards or packed)
    whole = (axes[dims.index(d)] for d in ("realization", *space_dims(dims)) if d in dims)
    uncut = all(array.chunks[axis] == array.shape[axis] for axis in whole)
    little = array.dtype in (np.dtype("<f4"), np.dtype("<f8"))
    chunk_bytes = int(np.prod(array.chunks)) * array.dtype.itemsize
    if not (plain and uncut and little and chunk_bytes >= _MIN_MAPPED_BYTES):
        return None
    return MappedVariable(array, folder, axes, layout.flip, "realization" in dims)
