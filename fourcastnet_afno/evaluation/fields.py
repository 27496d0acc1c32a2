"""Where the fields of a forecast come from: stores, functions of the valid time, the initial state.

The engine asks each source for the fields of one channel, some initial times and some lead times.
Arrays in zarr chunks without compression are mapped into memory instead of being decoded, which
costs many times the arithmetic.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import xarray as xr
import zarr

from data_pipeline.channels import Channel
from data_pipeline.coarsening import Coarsening
from data_pipeline.grid import LatLonGrid

_MIN_MAPPED_BYTES = 2**15
_MEAN_BYTES = 64 * 2**20
_LEAD_NAMES = ("lead_time", "prediction_timedelta", "step")


@runtime_checkable
class FieldSource(Protocol):
    """Fields of one forecast."""

    lead_times: np.ndarray
    num_members: int
    at: Callable[[Channel, np.ndarray], np.ndarray] | None
    """Fields by valid time, where the forecast depends on it alone."""

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> list[np.ndarray]:
        """Fields (lead_time, realization, latitude, longitude) of each initial time.

        Args:
            channel: Which channel.
            inits: Initial times, datetime64.
            leads: Range of indices of ``lead_times``.
        """
        ...


class DatasetFields:
    """Fields of a canonical dataset, see ``forecasts``.

    Args:
        dataset: Dimensions init_time, lead_time, [realization], [level], latitude, longitude.
        coarsening: Applied to every field.
    """

    at = None

    def __init__(self, dataset: xr.Dataset, coarsening: Coarsening | None = None) -> None:
        self._dataset, self._coarsening = dataset, coarsening
        self.lead_times = dataset["lead_time"].values
        self.num_members = dataset.sizes.get("realization", 1)

    @cached_property
    def _init_times(self) -> np.ndarray:
        return self._dataset["init_time"].values

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> list[np.ndarray]:
        """See ``FieldSource``."""
        order = np.searchsorted(self._init_times, inits)
        mapped = self._mapped(channel.name)
        if mapped is not None:
            level = self._level_index(channel)
            fields = [mapped.fields(int(index), leads, level) for index in order]
        else:
            fields = self._decoded(channel, order, leads)
        if self._coarsening is not None:
            fields = [self._coarsening.apply(field) for field in fields]
        return fields

    def _decoded(self, channel: Channel, order: np.ndarray, leads: slice) -> list[np.ndarray]:
        picked = self._dataset[channel.name].isel(init_time=order, lead_time=leads)
        if channel.level is not None:
            picked = picked.sel(level=channel.level)
        values = picked.values
        return list(values if "realization" in picked.dims else values[:, :, None])

    def _level_index(self, channel: Channel) -> int | None:
        if channel.level is None:
            return None
        return int(np.flatnonzero(self._dataset["level"].values == channel.level)[0])

    def _mapped(self, name: str) -> "MappedVariable | None":
        layout = self._dataset[name].encoding.get("layout")
        if layout is None:
            return None
        dims = tuple(map(str, self._dataset[name].dims))
        axes = tuple(layout["axes"])
        return open_mapped(layout["path"], layout["name"], axes, dims, bool(layout["flip"]))


class MappedVariable:
    """A variable whose chunks are plain files of little-endian numbers.

    Args:
        array: Array without compression, filters and shards in a local folder.
        folder: The array's folder.
        axes: Axis of the array for each canonical axis.
        flip: Whether its latitudes go from south to north.
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

    def fields(self, init: int, leads: slice, level: int | None) -> np.ndarray:
        """Fields (lead_time, realization, latitude, longitude) of one initial time."""
        length = self._chunks[1]
        first, last = leads.start // length, (leads.stop - 1) // length
        parts = []
        for chunk in range(first, last + 1):
            part = slice(
                max(leads.start - chunk * length, 0), min(leads.stop - chunk * length, length)
            )
            parts.append(self._part(init, chunk, part, level))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, init: int, lead_chunk: int, leads: slice, level: int | None) -> np.ndarray:
        chunk = [init // self._chunks[0], lead_chunk] + [0] * (len(self._axes) - 2)
        if level is not None:
            chunk[-3] = level // self._chunks[-3]
        block = self._block(tuple(chunk))[init % self._chunks[0], leads]
        if level is not None:
            block = block[..., level % self._chunks[-3], :, :]
        if not self._has_members:
            block = block[:, None]
        return block[..., ::-1, :] if self._flip else block

    def _block(self, chunk: tuple[int, ...]) -> np.ndarray:
        """A chunk with canonical axes."""
        stored = [0] * len(chunk)
        for axis, index in zip(self._axes, chunk, strict=True):
            stored[axis] = index
        path = self._folder / self._array.metadata.encode_chunk_key(tuple(stored))
        shape, dtype = self._array.chunks, self._array.dtype
        if not path.exists():  # a chunk of nothing but the fill value is not written
            return np.full(shape, self._array.fill_value, dtype).transpose(self._axes)
        return np.memmap(path, dtype, "r", shape=shape).transpose(self._axes)


@lru_cache(maxsize=256)
def open_mapped(
    path: str, name: str, axes: tuple[int, ...], dims: tuple[str, ...], flip: bool
) -> MappedVariable | None:
    """A variable to be mapped, or ``None`` where its chunks must be decoded."""
    array = zarr.open_array(Path(path) / name, mode="r")
    packed = {"scale_factor", "add_offset"} & set(array.attrs)
    plain = not (array.compressors or array.filters or array.shards or packed)
    whole = (axes[dims.index(d)] for d in ("realization", "latitude", "longitude") if d in dims)
    uncut = all(array.chunks[axis] == array.shape[axis] for axis in whole)
    little = array.dtype in (np.dtype("<f4"), np.dtype("<f8"))
    chunk_bytes = int(np.prod(array.chunks)) * array.dtype.itemsize
    if not (plain and uncut and little and chunk_bytes >= _MIN_MAPPED_BYTES):
        return None
    return MappedVariable(array, Path(path) / name, axes, flip, "realization" in dims)


class TruthFields:
    """Fields of truth by channel and time, in float64.

    Args:
        dataset: Canonical dataset.
        coarsening: Applied to every field.
    """

    def __init__(self, dataset: xr.Dataset, coarsening: Coarsening | None = None) -> None:
        self._dataset, self._coarsening = dataset, coarsening

    def at(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        """Fields (time, latitude, longitude) at times that truth has."""
        picked = self._dataset[channel.name].sel(time=times)
        if channel.level is not None:
            picked = picked.sel(level=channel.level)
        # Whoever reads in threads of its own needs no threads of dask.
        values = picked.compute(scheduler="synchronous").values
        if self._coarsening is not None:
            values = self._coarsening.apply(values)
        return values.astype(np.float64)

    def mean(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        """Mean over times that truth has, (latitude, longitude), block by block."""
        length = max(1, _MEAN_BYTES // self.at(channel, times[:1]).nbytes)
        sums = (
            self.at(channel, times[start : start + length]).sum(axis=0)
            for start in range(0, len(times), length)
        )
        return np.sum(list(sums), axis=0) / len(times)

    @cached_property
    def times(self) -> np.ndarray:
        """Times of truth."""
        return self._dataset["time"].values

    @property
    def dtype(self) -> np.dtype:
        """Precision of the fields in the store."""
        return next(iter(self._dataset.data_vars.values())).dtype


class PersistenceFields:
    """The state at the initial time, for every lead time."""

    at = None
    num_members = 1

    def __init__(self, truth: TruthFields, lead_times: np.ndarray) -> None:
        self._truth, self.lead_times = truth, lead_times

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> list[np.ndarray]:
        """See ``FieldSource``; NaN where truth has no state at the initial time."""
        count = leads.stop - leads.start
        known = np.isin(inits, self._truth.times)
        states = self._truth.at(channel, inits[known]) if known.any() else np.zeros((0, 1, 1))
        result, position = [], 0
        for is_known in known:
            state = states[position] if is_known else np.full(states.shape[1:], np.nan)
            position += int(is_known)
            result.append(np.broadcast_to(state, (count, 1, *state.shape)))
        return result


class ValidTimeFields:
    """A function of the valid time, as a climatology.

    Args:
        function: Gives fields (time, latitude, longitude) of a channel at unique times.
        lead_times: timedelta64.
    """

    num_members = 1

    def __init__(
        self, function: Callable[[Channel, np.ndarray], np.ndarray], lead_times: np.ndarray
    ) -> None:
        self.at, self.lead_times = function, lead_times

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> list[np.ndarray]:
        """See ``FieldSource``."""
        valid = inits[:, None] + self.lead_times[None, leads]
        times, positions = np.unique(valid, return_inverse=True)
        fields = self.at(channel, times)
        return [fields[row][:, None] for row in positions.reshape(valid.shape)]


def coarsening_between(source: LatLonGrid, target: LatLonGrid) -> Coarsening | None:
    """Conservative means from one grid to another; ``None`` where they are the same."""
    return None if source.is_same(target) else Coarsening(source, target)


def chunk_lengths(dataset: xr.Dataset) -> tuple[int, int]:
    """Largest chunks of a store along initial and lead times; 1 where there are none."""
    lengths = [1, 1]
    for variable in dataset.data_vars.values():
        chunks = variable.encoding.get("preferred_chunks") or {}
        for position, names in enumerate((("init_time", "time"), _LEAD_NAMES)):
            sizes = [int(chunks[name]) for name in names if name in chunks]
            lengths[position] = max(lengths[position], *sizes, 1)
    return lengths[0], lengths[1]
