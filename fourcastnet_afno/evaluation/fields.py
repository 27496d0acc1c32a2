"""Where the fields of a forecast come from: stores, functions of the valid time, the initial state.

The engine asks each source for the fields of one channel, some initial times and some lead times.
Arrays in zarr chunks without compression are mapped into memory instead of being decoded, which
costs many times the arithmetic.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.coarsening import Coarsening
from data_pipeline.grid import Grid
from fourcastnet_afno.evaluation.forecasts import Layout
from fourcastnet_afno.evaluation.mapped import MappedVariable, open_mapped

_KEPT_BYTES, _NUM_KEPT = 128 * 2**20, 3
_MEAN_BYTES = 64 * 2**20
_LEAD_NAMES = ("lead_time", "prediction_timedelta", "step")
FieldsAt = Callable[[Channel, np.ndarray], np.ndarray]


@runtime_checkable
class FieldSource(Protocol):
    """Fields of one forecast."""

    lead_times: np.ndarray
    num_members: int
    at: FieldsAt | None
    """Fields by valid time, where the forecast depends on it alone."""

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """Fields (lead_time, realization, latitude, longitude) of each initial time.

        An array may be written over when the next is taken.

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
        layouts: Of the variables that lie in a local store, from which ``dataset`` was opened.
    """

    at: FieldsAt | None = None

    def __init__(
        self,
        dataset: xr.Dataset,
        coarsening: Coarsening | None = None,
        layouts: Mapping[str, Layout] | None = None,
    ) -> None:
        self._dataset, self._coarsening, self._layouts = dataset, coarsening, layouts or {}
        self.lead_times = dataset["lead_time"].values
        self.num_members = dataset.sizes.get("realization", 1)

    @cached_property
    def _init_times(self) -> np.ndarray:
        return self._dataset["init_time"].values

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """See ``FieldSource``."""
        order = np.searchsorted(self._init_times, inits)
        mapped = self._mapped(channel.name)
        if mapped is not None:
            level, buffers = self._level_index(channel), []
            fields = (mapped.fields(int(index), leads, level, buffers) for index in order)
        else:
            fields = iter(self._decoded(channel, order, leads))
        coarsening = self._coarsening
        return fields if coarsening is None else (coarsening.apply(field) for field in fields)

    def _decoded(self, channel: Channel, order: np.ndarray, leads: slice) -> list[np.ndarray]:
        picked = self._dataset[channel.name].isel(init_time=as_slice(order), lead_time=leads)
        if channel.level is not None:
            picked = picked.isel(level=self._level_index(channel))
        values = _computed(picked)
        return list(values if "realization" in picked.dims else values[:, :, None])

    def _level_index(self, channel: Channel) -> int | None:
        if channel.level is None:
            return None
        return int(np.flatnonzero(self._dataset["level"].values == channel.level)[0])

    def _mapped(self, name: str) -> MappedVariable | None:
        layout = self._layouts.get(name)
        if layout is None:
            return None
        return open_mapped(layout, tuple(map(str, self._dataset[name].dims)))


class TruthFields:
    """Fields of truth by channel and time, in float64.

    All channels of some times are read at once where they fit into memory, because stores hold them
    together, and kept for the next channel.

    Args:
        dataset: Canonical dataset, of the variables that are scored.
        coarsening: Applied to every field.
        layouts: Of the variables that lie in a local store, from which ``dataset`` was opened, with
            all its times and levels.
    """

    def __init__(
        self,
        dataset: xr.Dataset,
        coarsening: Coarsening | None = None,
        layouts: Mapping[str, Layout] | None = None,
    ) -> None:
        self._dataset, self._coarsening, self._layouts = dataset, coarsening, layouts or {}
        self._kept: OrderedDict[bytes, dict[str, np.ndarray]] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes read for themselves."""
        return type(self), (self._dataset, self._coarsening, self._layouts)

    def at(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        """Fields (time, latitude, longitude) at times that truth has."""
        order = as_slice(np.searchsorted(self.times, times))
        level = self._level_index(channel)
        size = self._dataset.nbytes // max(1, len(self.times)) * len(times)
        if size <= _KEPT_BYTES:
            values = self._together(times, order)[channel.name]
            values = values if level is None else values[:, level]
        else:
            picked = self._dataset[channel.name].isel(time=order)
            values = _computed(picked if level is None else picked.isel(level=level))
        if self._coarsening is not None:
            values = self._coarsening.apply(values)
        return values.astype(np.float64)

    def _together(self, times: np.ndarray, order: slice | np.ndarray) -> dict[str, np.ndarray]:
        key = times.tobytes()
        with self._lock:  # two threads that need the same times read them once
            if key not in self._kept:
                names = map(str, self._dataset.data_vars)
                self._kept[key] = {name: self._states(name, order) for name in names}
                if len(self._kept) > _NUM_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _states(self, name: str, order: slice | np.ndarray) -> np.ndarray:
        """A variable with all levels at some times."""
        layout, variable = self._layouts.get(name), self._dataset[name]
        mapped = None if layout is None else open_mapped(layout, tuple(map(str, variable.dims)))
        if mapped is None:
            return _computed(variable.isel(time=order))
        return mapped.states(np.arange(len(self.times))[order])

    def _level_index(self, channel: Channel) -> int | None:
        if channel.level is None:
            return None
        return int(np.flatnonzero(self._dataset["level"].values == channel.level)[0])

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

    at: FieldsAt | None = None
    num_members = 1

    def __init__(self, truth: TruthFields, lead_times: np.ndarray) -> None:
        self._truth, self.lead_times = truth, lead_times

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """See ``FieldSource``; NaN where truth has no state at the initial time."""
        count = leads.stop - leads.start
        known = np.isin(inits, self._truth.times)
        states = self._truth.at(channel, inits[known]) if known.any() else np.zeros((0, 1, 1))
        position = 0
        for is_known in known:
            state = states[position] if is_known else np.full(states.shape[1:], np.nan)
            position += int(is_known)
            yield np.broadcast_to(state, (count, 1, *state.shape))


class ValidTimeFields:
    """A function of the valid time, as a climatology.

    Args:
        function: Gives fields (time, latitude, longitude) of a channel at unique times.
        lead_times: timedelta64.
    """

    num_members = 1

    def __init__(self, function: FieldsAt, lead_times: np.ndarray) -> None:
        self.at: FieldsAt | None = function
        self._function, self.lead_times = function, lead_times

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """See ``FieldSource``."""
        valid = inits[:, None] + self.lead_times[None, leads]
        times, positions = np.unique(valid, return_inverse=True)
        fields = self._function(channel, times)
        return (fields[row][:, None] for row in positions.reshape(valid.shape))


def _computed(array: xr.DataArray) -> np.ndarray:
    """Values, without threads of dask: whoever reads has threads of its own."""
    return array.compute(scheduler="synchronous").values


def as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """Evenly spaced indices as a slice, which copies nothing."""
    steps = np.diff(rows)
    if len(rows) == 1:
        return slice(int(rows[0]), int(rows[0]) + 1)
    if len(rows) and steps[0] > 0 and (steps == steps[0]).all():
        return slice(int(rows[0]), int(rows[-1]) + 1, int(steps[0]))
    return rows


def coarsening_between(source: Grid, target: Grid) -> Coarsening | None:
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


def holds_levels_together(dataset: xr.Dataset) -> bool:
    """Whether chunks hold several levels, so that reading one decodes others."""
    chunks = (v.encoding.get("preferred_chunks") or {} for v in dataset.data_vars.values())
    return any(int(sizes.get("level", 1)) > 1 for sizes in chunks)
