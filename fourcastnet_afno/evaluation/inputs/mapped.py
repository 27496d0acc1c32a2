"""Zarr arrays whose chunks are plain files of numbers: to decode them costs more than scores."""

import os
from collections.abc import Iterator

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import same_coordinates, space_dims
from data_pipeline.sources.fields.select import MEMBER_AXES
from data_pipeline.sources.names import normalize_units
from data_pipeline.sources.valid_times import STARTS, STEPS
from fourcastnet_afno.evaluation.inputs.plain_arrays import PlainArray, plain_array

_MIN_MAPPED_BYTES, _SMALL_BYTES = 2**15, 2**22
_STACK_BYTES = 2**21  # of small chunks that are read one after another into one block
_INCREASING = ("init_time", "lead_time", "time", "level")
_STORED_NAMES = {  # of dimensions that may have others
    "init_time": (*STARTS, "time"),
    "lead_time": STEPS,
    "realization": MEMBER_AXES,
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon"),
}


class MappedVariable:
    """A variable whose chunks are plain files of numbers in a local folder.

    Args:
        array: The files.
        axes: Axis of the array for each canonical axis of the variable.
        flip: Whether rows are stored in the other order, as latitudes from south to north.
        has_members: Whether one of the axes is ``realization``.
    """

    def __init__(
        self, array: PlainArray, axes: tuple[int, ...], *, flip: bool, has_members: bool
    ) -> None:
        self._array, self._axes, self._flip = array, axes, flip
        self._has_members = has_members
        self._chunks = tuple(array.chunks[axis] for axis in axes)
        self._sizes = tuple(array.shape[axis] for axis in axes)
        self._shape, self._dtype = array.chunks, array.dtype
        self._chunk_bytes = array.chunk_bytes
        self._small = self._chunk_bytes <= _SMALL_BYTES

    def blocks(self, inits: np.ndarray, leads: slice, level: int | None) -> Iterator[np.ndarray]:
        """Fields of a forecast, in blocks as of ``FieldSource.read``.

        Indices of initial times increase. The next block is written over the memory of the last.
        """
        self._array.require_unchanged()
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
        self._array.require_unchanged()
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
            paths.append(self._array.chunk_path(tuple(stored)))
        if self._small:  # a copy costs less than a map
            for path, memory in zip(paths, buffer, strict=False):
                self._copy(path, memory)
            stack = buffer[: len(chunks)]
        else:
            (path,) = paths
            try:
                self._require_complete(path, os.stat(path).st_size)
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
            size = os.fstat(file).st_size
            size = os.readv(file, [memory.data]) if size == self._chunk_bytes else size
        finally:
            os.close(file)
        self._require_complete(path, size)

    def _require_complete(self, path: str, size: int) -> None:
        if size != self._chunk_bytes:
            raise InputError(
                f"{path} has {size} bytes, expected {self._chunk_bytes}; the store is damaged or "
                "not complete: write it again",
                code="unreadable-file",
            )


def level_index(dataset: xr.Dataset, channel: Channel) -> int | None:
    """Where a channel's level is on the axis of levels, if it has one."""
    if channel.level is None:
        return None
    return int(np.flatnonzero(dataset["level"].values == channel.level)[0])


def as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """Evenly spaced indices as a slice, which copies nothing."""
    steps = np.diff(rows)
    if len(rows) == 1:
        return slice(int(rows[0]), int(rows[0]) + 1)
    if len(rows) and steps[0] > 0 and (steps == steps[0]).all():
        return slice(int(rows[0]), int(rows[-1]) + 1, int(steps[0]))
    return rows


def mapped_variables(
    result: xr.Dataset, opened: xr.Dataset, path: str
) -> dict[str, MappedVariable]:
    """The variables of a canonical dataset that can be mapped into memory.

    Args:
        result: Canonical.
        opened: The same under the names and axes of the local store.
        path: Folder of the store.
    """
    mapped = {}
    for name in map(str, result.data_vars):
        if name in opened:
            variable = _mapped_variable(result[name], opened[name], path)
            mapped |= {} if variable is None else {name: variable}
    return mapped


def _mapped_variable(
    result: xr.DataArray, opened: xr.DataArray, path: str
) -> MappedVariable | None:
    """A variable to be mapped; ``None`` where more than the order of its axes was changed."""
    array = plain_array(path, str(result.name), opened.encoding)
    if array is None or not array.chunk_bytes >= _MIN_MAPPED_BYTES:
        return None
    units = normalize_units(str(opened.attrs.get("units", "")))
    same_values = result.dtype == array.dtype and units in ("", result.attrs["units"])
    stored = [str(dim) for dim in opened.dims]
    candidates = (_STORED_NAMES.get(str(dim), (str(dim),)) for dim in result.dims)
    names = [next((n for n in some if n in stored), "") for some in candidates]
    if not same_values or array.shape != opened.shape or sorted(names) != sorted(stored):
        return None
    orders = {
        str(dim): _order(result, str(dim), opened, n)
        for dim, n in zip(result.dims, names, strict=True)
    }
    rows, columns = space_dims(orders)
    flip = orders.pop(rows) == "reversed"
    axes = tuple(stored.index(name) for name in names)
    fields = [i for i, d in enumerate(result.dims) if d in ("realization", rows, columns)]
    uncut = all(array.chunks[axes[i]] == array.shape[axes[i]] for i in fields)
    if not uncut or set(orders.values()) != {"same"}:
        return None
    return MappedVariable(array, axes, flip=flip, has_members="realization" in result.dims)


def _order(result: xr.DataArray, dim: str, opened: xr.DataArray, name: str) -> str:
    """How the points of an axis lie in a store: ``same``, ``reversed`` or in ``another`` order."""
    if result.sizes[dim] != opened.sizes[name]:
        return "another"
    if dim not in result.coords or name not in opened.coords:
        return "another" if dim in result.coords or name in opened.coords else "same"
    points, stored = result[dim].values, opened[name].values
    if dim in _INCREASING:  # in units, types and calendars that may differ
        increases = all(
            (np.diff(values) > values[:1] - values[:1]).all() for values in (points, stored)
        )
        return "same" if increases else "another"
    if not np.issubdtype(points.dtype, np.number):
        return "same" if np.array_equal(points, stored) else "another"
    points, stored = points.astype(float), stored.astype(float)
    if same_coordinates(points, stored):
        return "same"
    return "reversed" if same_coordinates(points, stored[::-1]) else "another"
